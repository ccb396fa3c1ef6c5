"""Beanstalk's nginx with the project's files in it, on loopback, and a server asked by way of it."""

import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scripts.rehearsal.skeleton import APPLICATION_CONF, NGINX_CONF
from tests.needs import needs, needs_root
from tests.rigs.free_port import free_port
from tests.rigs.get_config import write_get_config
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.server import Server

OURS = ROOT / ".platform/nginx/conf.d"


def render_limits(folder: Path, properties: Mapping[str, str] | None) -> None:
    """Run render_nginx_limits in a copy of .platform whose get-config knows `properties`."""
    scripts = folder / "bin"
    scripts.mkdir(parents=True)
    (folder / "nginx/conf.d/elasticbeanstalk").mkdir(parents=True)
    get_config = folder / "get-config"
    write_get_config(get_config, properties)
    for name in ("properties.sh", "render_nginx_limits"):
        text = (ROOT / ".platform/bin" / name).read_text()
        (scripts / name).write_text(text.replace("/opt/elasticbeanstalk/bin/get-config", str(get_config)))
    subprocess.run(["bash", str(scripts / "render_nginx_limits")], check=True, capture_output=True)


@contextmanager
def nginx(
    folder: Path,
    application_port: int,
    callers: str = "",
    limits: str = "client_max_body_size 1000;\n",
    connections: int = 1024,
) -> Iterator[int]:
    """nginx on loopback; its port. `callers` and `limits` are what is rendered into the files of these names."""
    needs("nginx")
    needs_root("nginx's user is set")
    port = free_port()
    locations = folder / "conf.d/elasticbeanstalk"
    locations.mkdir(parents=True)
    (locations / "00_application.conf").write_text(APPLICATION_CONF.replace(":8000", f":{application_port}"))
    shutil.copytree(OURS, folder / "conf.d", dirs_exist_ok=True)
    (locations / "limits.conf").write_text(limits.replace(":8000", f":{application_port}"))
    (folder / "conf.d/callers.conf").write_text(callers)
    text = NGINX_CONF.replace("user nginx;", "user root;\ndaemon off;").replace("listen 80", f"listen 127.0.0.1:{port}")
    text = text.replace("/var/log/nginx", str(folder)).replace("/run/nginx.pid", str(folder / "pid"))
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    text = text.replace("worker_connections 1024", f"worker_connections {connections}")
    text = text.replace("http {", f"http {{\nclient_body_temp_path {folder}/body;\n{temporary}")
    (folder / "nginx.conf").write_text(text)
    with (folder / "console.log").open("wb") as log:
        server = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"], stdout=log, stderr=log)
    try:
        wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
        yield port
    finally:
        server.terminate()
        server.wait(10)


class ThroughNginx(Server):
    """A server that runs, asked by way of its proxy."""

    def __init__(self, api: Server, port: int) -> None:
        self.__dict__.update(api.__dict__)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def _dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5.0)


@contextmanager
def behind_nginx(api: Server, folder: Path) -> Iterator[ThroughNginx]:
    """nginx before `api`, which was started with MODEL_API_PROXY_HOPS=1; its limits as a deployment renders them."""
    render_limits(folder, {"MODEL_API_PROXY_HOPS": "1"})
    rendered = folder / "nginx/conf.d"
    callers, limits = ((rendered / f"{n}.conf").read_text() for n in ("callers", "elasticbeanstalk/limits"))
    with nginx(folder / "run", api.port, callers, limits, connections=4096) as port:
        yield ThroughNginx(api, port)
