"""Beanstalk's engine on a rehearsed instance: takes a bundle through the documented steps, in the documented order.

usage (inside the machine, as root):  engine.py app|config BUNDLE OPTIONS

`app`: a new version. `config`: only properties changed; the confighooks run instead of the hooks, pip doesn't.
OPTIONS: a JSON file with the environment's option settings ({namespace: {name: value}}), which beat .ebextensions.
Each step is a JSON line: {"step", "seconds", "output"}. Ends with 1 at the first step that fails, as the engine does.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from scripts.rehearsal.ebextensions import Extensions, extensions_of
from scripts.rehearsal.skeleton import SQSD_SERVICE, WEB_SERVICE

ROOT = Path(__file__).resolve().parents[2]
APP = Path("/var/app")
STAGING, CURRENT = APP / "staging", APP / "current"
VENV = APP / "venv" / "staging-rehearsal"
DEPLOYMENT = Path("/opt/elasticbeanstalk/deployment")
ENVIRONMENT = "aws:elasticbeanstalk:application:environment"
SQSD = "aws:elasticbeanstalk:sqsd"
SQSD_CONFIG = "/etc/aws-sqsd.json"
NGINX_STAGING = Path("/var/proxy/staging/nginx")


class StepFailed(Exception):
    """A step ended badly; the deployment is aborted."""


class Engine:
    """One deployment."""

    def __init__(self, kind: str, bundle: Path, options: dict[str, dict[str, str]]) -> None:
        self.kind = kind
        self.bundle = bundle
        self.options = options
        self.hooks = ".platform/hooks" if kind == "app" else ".platform/confighooks"
        self.environ: dict[str, str] = {}

    def deploy(self) -> None:
        extensions = self._read_extensions()
        self._write_properties(extensions)
        if self.kind == "app":
            for package in extensions.section("packages").get("yum", {}):
                self._step(f"package {package}", ["yum", package])
            self._write_files(extensions)
            self._commands(extensions.section("commands"), "command", Path("/"))
        self._timed("bundle", self._unzip)
        self._run_hooks("prebuild")
        if self.kind == "app":
            self._pip()
            self._commands(extensions.section("container_commands"), "container command", STAGING)
        self._run_hooks("predeploy")
        self._configure_nginx()
        self._flip()
        self._step("nginx restart", ["systemctl", "restart", "nginx"])
        self._step("nginx enable", ["systemctl", "enable", "nginx"])
        if SQSD in self.options:
            self._start_sqsd(self.options[SQSD])
        self._run_hooks("postdeploy", CURRENT)

    def _read_extensions(self) -> Extensions:
        """The engine reads .ebextensions before the bundle is unpacked where it will run."""
        folder = Path("/tmp/ebextensions")
        shutil.rmtree(folder, ignore_errors=True)
        with zipfile.ZipFile(self.bundle) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name.startswith(".ebextensions/")])
        return extensions_of(folder / ".ebextensions")

    def _write_properties(self, extensions: Extensions) -> None:
        ours, theirs = extensions.option_settings.get(ENVIRONMENT, {}), self.options.get(ENVIRONMENT, {})
        properties = {**ours, **theirs}
        path = f"{VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        # A home without the settings (pip's, say) of whoever rehearses.
        self.environ = {**properties, "PATH": path, "LANG": "C.UTF-8", "HOME": "/opt/elasticbeanstalk"}
        DEPLOYMENT.mkdir(parents=True, exist_ok=True)
        (DEPLOYMENT / "properties.json").write_text(json.dumps(properties))
        lines = [f"{name}={value}\n" for name, value in {**properties, "PORT": "8000", "PATH": path}.items()]
        (DEPLOYMENT / "env").write_text("".join(lines))

    def _write_files(self, extensions: Extensions) -> None:
        for name, entry in extensions.section("files").items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                shutil.copy2(path, f"{path}.bak")
            path.write_text(entry["content"])
            path.chmod(int(entry["mode"][-4:], 8))

    def _commands(self, commands: dict[str, Any], what: str, folder: Path) -> None:
        for name, entry in commands.items():
            self._step(f"{what} {name}", ["/bin/sh", "-c", entry["command"]], folder)

    def _unzip(self) -> None:
        shutil.rmtree(STAGING, ignore_errors=True)
        with zipfile.ZipFile(self.bundle) as archive:
            for info in archive.infolist():
                path = Path(archive.extract(info, STAGING))
                mode = (info.external_attr >> 16) & 0o777
                if mode and not info.is_dir():
                    path.chmod(mode)
        subprocess.run(["chown", "-R", "webapp:webapp", str(STAGING)], check=True)

    def _run_hooks(self, stage: str, folder: Path = STAGING) -> None:
        for hook in sorted((folder / self.hooks / stage).glob("*")):
            self._step(f"hook {stage}/{hook.name}", [str(hook)], folder)

    def _pip(self) -> None:
        if not (VENV / "bin/python").exists():
            self._step("virtual environment", [str(Path(sys.base_prefix, "bin/python3")), "-m", "venv", str(VENV)])
        requirements = str(STAGING / "requirements.txt")
        self._step("pip", [str(VENV / "bin/python"), "-m", "pip", "install", "-r", requirements], STAGING)

    def _configure_nginx(self) -> None:
        shutil.rmtree(NGINX_STAGING, ignore_errors=True)
        base = Path("/etc/nginx.base")
        if not base.exists():
            shutil.copytree("/etc/nginx", base, symlinks=True)
        shutil.copytree(base, NGINX_STAGING, symlinks=True)
        if (STAGING / ".platform/nginx").exists():
            shutil.copytree(STAGING / ".platform/nginx", NGINX_STAGING, dirs_exist_ok=True)

    def _flip(self) -> None:
        procfile = (STAGING / "Procfile").read_text()
        web = next(line.split(":", 1)[1].strip() for line in procfile.splitlines() if line.startswith("web:"))
        self._step("web stop", ["/bin/sh", "-c", "! systemctl is-active web 2>/dev/null || systemctl stop web"])
        shutil.rmtree(CURRENT, ignore_errors=True)
        STAGING.rename(CURRENT)
        Path("/etc/systemd/system/web.service").write_text(WEB_SERVICE.replace("@COMMAND@", web))
        self._step("web start", ["systemctl", "start", "web"])
        self._step("web enable", ["systemctl", "enable", "web"])
        self._step("nginx test", ["nginx", "-t", "-c", str(NGINX_STAGING / "nginx.conf")])
        shutil.rmtree("/etc/nginx")
        shutil.copytree(NGINX_STAGING, "/etc/nginx", symlinks=True)

    def _start_sqsd(self, options: dict[str, str]) -> None:
        """The worker tier's daemon, with the tasks of cron.yaml; which instance leads is the options' to say here."""
        tasks = {}
        if options.get("IsLeader") == "true" and (CURRENT / "cron.yaml").exists():
            tasks = {task["name"]: task["url"] for task in yaml.safe_load((CURRENT / "cron.yaml").read_text())["cron"]}
        config = {
            "queue_url": options["WorkerQueueURL"],
            "http_path": options["HttpPath"],
            "mime_type": options["MimeType"],
            "http_connections": int(options["HttpConnections"]),
            "inactivity_timeout_s": float(options["InactivityTimeout"]),
            "visibility_timeout_s": int(options["VisibilityTimeout"]),
            "error_visibility_timeout_s": int(options["ErrorVisibilityTimeout"]),
            "tasks": tasks,
            "tasks_every_s": float(options.get("TasksEvery", "300")),
        }
        Path(SQSD_CONFIG).write_text(json.dumps(config))
        service = SQSD_SERVICE.replace("@VENV@", str(VENV)).replace("@CONFIG@", SQSD_CONFIG)
        Path("/etc/systemd/system/sqsd.service").write_text(service.replace("@ROOT@", str(ROOT)))
        self._step("sqsd restart", ["systemctl", "restart", "sqsd"])
        self._step("sqsd enable", ["systemctl", "enable", "sqsd"])

    def _timed(self, name: str, action: Any) -> None:
        start = time.monotonic()
        action()
        report(name, time.monotonic() - start, "")

    def _step(self, name: str, command: list[str], folder: Path = Path("/")) -> None:
        start = time.monotonic()
        done = subprocess.run(
            command,
            cwd=folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        report(name, time.monotonic() - start, done.stdout)
        if done.returncode != 0:
            raise StepFailed(name)


def report(step: str, seconds: float, output: str) -> None:
    print(json.dumps({"step": step, "seconds": round(seconds, 3), "output": output[-4000:]}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["app", "config"])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("options", type=Path)
    arguments = parser.parse_args()
    os.umask(0o022)
    try:
        Engine(arguments.kind, arguments.bundle, json.loads(arguments.options.read_text())).deploy()
    except StepFailed as failure:
        report("aborted", 0, str(failure))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
