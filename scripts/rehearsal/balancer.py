"""The load balancer: a real nginx in front, and a target group that decides from health checks who gets traffic."""

import http.client
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.rehearsal.network import Network, inside

CONF = """\
user root;
worker_processes 1;
pid @FOLDER@/nginx.pid;
error_log @FOLDER@/error.log warn;
daemon off;
events { worker_connections 2048; }
http {
    access_log off;
    client_body_temp_path @FOLDER@/body;
    proxy_temp_path @FOLDER@/proxy;
    fastcgi_temp_path @FOLDER@/fastcgi;
    uwsgi_temp_path @FOLDER@/uwsgi;
    scgi_temp_path @FOLDER@/scgi;
    include @FOLDER@/targets.conf;
    server {
        listen 80;
        client_max_body_size 0;
        location / {
            @PASS@
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_read_timeout @IDLE_S@s;
            proxy_next_upstream off;
        }
    }
}
"""


@dataclass
class Target:
    """A registered instance. `draining`: deregistered, gets nothing new."""

    address: str
    healthy: bool = False
    streak: int = 0  # checks in a row that contradict `healthy`
    draining: bool = False


class Balancer:
    """Started by the constructor. Health checks run on a thread of their own; all methods may be called from any."""

    def __init__(
        self, folder: Path, network: Network, *, path: str, interval_s: float, threshold: int, idle_s: int
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.path, self.interval_s, self.threshold, self.idle_s = path, interval_s, threshold, idle_s
        self.namespace, self.address = network.join("alb")
        self.targets: dict[str, Target] = {}
        self.changed = threading.Condition()
        self.closing = threading.Event()
        self._write()
        command = ["ip", "netns", "exec", self.namespace, "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        with (folder / "console.log").open("wb") as log:
            self.nginx = subprocess.Popen(command, stdout=log, stderr=log)
        self.checker = threading.Thread(target=self._check_for_ever, daemon=True)
        self.checker.start()

    def register(self, address: str) -> None:
        with self.changed:
            self.targets[address] = Target(address)

    def deregister(self, address: str, drain_s: float) -> None:
        """Nothing new goes there; returns when what is under way had its time."""
        with self.changed:
            self.targets[address].draining = True
            self._apply()
        self.closing.wait(drain_s)
        with self.changed:
            del self.targets[address]

    def in_service(self) -> set[str]:
        with self.changed:
            return {target.address for target in self.targets.values() if target.healthy and not target.draining}

    def wait_healthy(self, address: str, timeout_s: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.targets[address].healthy, timeout_s)

    def close(self) -> None:
        self.closing.set()
        self.checker.join()
        self.nginx.terminate()
        self.nginx.wait(10)

    def _check_for_ever(self) -> None:
        with inside(self.namespace):
            while not self.closing.wait(self.interval_s):
                with self.changed:
                    addresses = list(self.targets)
                results = {address: self._check(address) for address in addresses}
                with self.changed:
                    before = self._serving()
                    for address, ok in results.items():
                        if address in self.targets:
                            self._count(self.targets[address], ok)
                    if self._serving() != before:
                        self._apply()
                        self.changed.notify_all()

    def _count(self, target: Target, ok: bool) -> None:
        target.streak = target.streak + 1 if ok != target.healthy else 0
        if target.streak >= self.threshold:
            target.healthy, target.streak = ok, 0

    def _check(self, address: str) -> bool:
        connection = http.client.HTTPConnection(address, 80, timeout=max(self.interval_s, 0.5))
        try:
            connection.request("GET", self.path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _serving(self) -> list[str]:
        return sorted(target.address for target in self.targets.values() if target.healthy and not target.draining)

    def _write(self) -> None:
        servers = "".join(f"server {address}:80;\n" for address in self._serving())
        (self.folder / "targets.conf").write_text(f"upstream targets {{\n{servers}}}\n" if servers else "")
        text = CONF.replace("@PASS@", "proxy_pass http://targets;" if servers else "return 503;")
        text = text.replace("@IDLE_S@", str(self.idle_s)).replace("@FOLDER@", str(self.folder))
        (self.folder / "nginx.conf").write_text(text)

    def _apply(self) -> None:
        """nginx takes the new targets for new connections; requests under way end where they are."""
        self._write()
        master = int((self.folder / "nginx.pid").read_text())
        os.kill(master, signal.SIGHUP)
        time.sleep(0.05)  # no event tells that the new workers listen; the old ones answer until then
