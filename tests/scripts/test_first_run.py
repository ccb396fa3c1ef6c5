"""What a newcomer meets: a port that is taken, a set-up that was interrupted, Ctrl-C at any moment."""

import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rigs import host
from tests.rigs.package_index import PackageIndex
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT

CURL = "curl http://127.0.0.1:8000/sim"


def test_a_judge_of_dives_that_nobody_trained_is_not_served(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "scripts", project / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    run = project / "scripts" / "training" / "diving" / "run.json"
    for told in (None, '{"targets_reached": false}'):
        run.unlink(missing_ok=True)
        if told is not None:
            run.write_text(told)
        done = subprocess.run(
            ["scripts/serve", "--with", "diving"], cwd=project, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 1
        assert "no judge of dives that is as good as it has to be" in done.stderr
        assert not (project / ".venv").exists()


def test_a_taken_port_is_told_before_anything_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run(
            ["scripts/serve"], cwd=ROOT, env={**os.environ, "PORT": port}, capture_output=True, text=True, timeout=30
        )
    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("address", ["::1", "[::1]", "::", "[::]"])
def test_a_port_that_is_taken_on_ipv6_is_told(address: str) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = str(other.getsockname()[1])
        environment = {**os.environ, "PORT": port, "MODEL_API_BIND": address}
        done = subprocess.run(["scripts/serve"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr


@pytest.mark.parametrize("port", ["abc", "0", "65536", "99999999999999999999", "80 80", "-1", "8e3", "$(id)"])
def test_what_is_no_port_is_told_before_anything_else(port: str) -> None:
    done = subprocess.run(
        ["scripts/serve"], cwd=ROOT, env={**os.environ, "PORT": port}, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"serve: PORT={port} is not a port: 1 to 65535\n"


@pytest.mark.parametrize(
    ("name", "value"), [("MODEL_API_LANES", "many"), ("MODEL_API_BIND", "x:80"), ("LOG_FORMAT", "xml")]
)
def test_a_bad_setting_is_told_before_anything_is_published(project: Path, name: str, value: str) -> None:
    (project / "scripts/setup").write_text("#!/bin/sh\nexit 0\n")
    shutil.copy(ROOT / "scripts/serve", project / "scripts")
    (project / "model_api").symlink_to(ROOT / "model_api")
    (project / ".venv").symlink_to(Path(sys.prefix))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    done = subprocess.run(
        ["scripts/serve"],
        cwd=project,
        env={**os.environ, "PORT": port, name: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"serve: {name}=")
    assert not (project / "efs").exists()


def test_a_mistyped_root_makes_no_store(tmp_path: Path) -> None:
    typo = tmp_path / "esf"
    environment = {**os.environ, "MODEL_API_EFS_ROOT": str(typo)}
    done = subprocess.run(["scripts/serve"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "holds no store" in done.stderr
    assert not typo.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--with"], "serve: --with what? There are: diving, smollm2"),
        (["--with", "dancing"], "serve: nothing is called dancing; --with takes: diving"),
        (["--with=dancing"], "serve: nothing is called dancing"),
        (["diving"], "serve: takes no arguments but --with"),
    ],
)
def test_what_cannot_be_served_with_is_told_at_once(arguments: list[str], words: str) -> None:
    done = subprocess.run(["scripts/serve", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert words in done.stderr
    assert not done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The set-up script in a project that needs nothing; what installs is a stand-in."""
    scripts = tmp_path / "project" / "scripts"
    scripts.mkdir(parents=True)
    for name in ("setup", "venv", "fetch_pip.py"):
        shutil.copy(ROOT / "scripts" / name, scripts)
    for name in ("install", "install-torch", "native", "pip"):
        (scripts / name).write_text("#!/bin/sh\nexit 0\n")
        (scripts / name).chmod(0o755)
    for name in ("", "-torch", "-demo"):
        (scripts.parent / f"requirements{name}.txt").touch()
    shutil.copytree(ROOT / "native", scripts.parent / "native", ignore=shutil.ignore_patterns("build", "*.so"))
    return scripts.parent


def set_up(project: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        ["scripts/setup"], cwd=project, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120
    )


def test_an_environment_that_was_left_half_made_is_made_anew(project: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(project / ".venv")], check=True)
    done = set_up(project)
    assert done.returncode == 0, done.stderr
    pip = subprocess.run([project / ".venv/bin/python", "-m", "pip", "--version"], capture_output=True, check=False)
    assert pip.returncode == 0
    assert list((project / ".venv").glob("installed-*"))


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A folder for PATH with Debian's own Python as it is without python3-venv: it makes no environment with pip."""
    folder = tmp_path / "bare"
    folder.mkdir()
    text = 'case "$*" in *without-pip*) ;; *"-m venv"*) echo "ensurepip is not available"; exit 1 ;; esac'
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (folder / name).write_text(f'#!/bin/sh\n{text}\nexec {Path(sys.base_prefix) / "bin/python3"} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def make_venv(project: Path, bare_python: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["scripts/venv", ".venv", "10"],
        cwd=project,
        env={**environment, "PATH": f"{bare_python}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.integration
def test_a_python_that_brings_no_pip_is_given_one(project: Path, bare_python: Path, tmp_path: Path) -> None:
    """The real wheel, from an index of this test's own."""
    folder = tmp_path / "index" / "pip"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "pip==26.3"]
    subprocess.run(download, env=host.ENVIRONMENT, check=True)
    (wheel,) = folder.iterdir()
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    done = make_venv(project, bare_python, {**os.environ, "PIP_INDEX_URL": folder.parent.as_uri()})
    assert done.returncode == 0, done.stderr
    told = subprocess.run([project / ".venv/bin/python", "-m", "pip", "--version"], capture_output=True, text=True)
    assert told.stdout.startswith("pip 26.3 ")


def test_without_an_index_nothing_is_fetched(project: Path, bare_python: Path) -> None:
    done = make_venv(project, bare_python, {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": ""})
    assert done.returncode == 1
    assert "no package index is configured" in done.stderr
    assert "apt-get install python3-venv" in done.stderr


@pytest.mark.parametrize("published", [True, False])
def test_a_pip_of_another_sum_is_not_taken(
    project: Path, bare_python: Path, tmp_path: Path, *, published: bool
) -> None:
    index = PackageIndex(tmp_path / "index")
    if published:
        index.add_wheel("pip", "26.3")
    done = make_venv(project, bare_python, {**os.environ, "PIP_INDEX_URL": index.url})
    assert done.returncode == 1
    assert "pip can't be fetched: " in done.stderr
    assert ("has another sum" in done.stderr) is published
    assert "apt-get install python3-venv" in done.stderr


def test_an_interrupted_installation_is_taken_up_again(project: Path, tmp_path: Path) -> None:
    install, began = project / "scripts/install", tmp_path / "began"
    install.write_text(f"#!/bin/sh\ntouch {began}\nexec sleep 100\n")
    with subprocess.Popen(["scripts/setup"], cwd=project, start_new_session=True) as running:
        wait_until(began.exists, within_s=60)
        os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C does: everybody in the terminal hears it
        assert running.wait(30) not in (0, None)
    assert not list((project / ".venv").glob("installed-*"))
    install.write_text("#!/bin/sh\nexit 0\n")
    assert set_up(project).returncode == 0
    assert list((project / ".venv").glob("installed-*"))


@contextmanager
def ready_server() -> Iterator[str]:
    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def beside(url: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """`scripts/serve`'s last lines, with `sleep` for a server."""
    script = f"{sys.executable} -m scripts.beside_server {url} {folder} $$ <<< '{CURL}' & exec sleep 100"
    return subprocess.Popen(
        ["bash", "-c", script], cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    )


def test_it_says_when_the_server_is_ready_and_how_to_ask(tmp_path: Path) -> None:
    with ready_server() as url, beside(url, tmp_path, MODEL_API_MODELS="minilm") as server:
        assert server.stderr is not None
        try:
            assert server.stderr.readline() == f"serve: ready. Open {url}/ or try:\n"
            assert server.stderr.readline().strip() == CURL.replace("http://127.0.0.1:8000", url)
        finally:
            server.kill()


def test_it_ends_with_the_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with beside(url, tmp_path) as server:
            silent.accept()[0].close()
            server.kill()
            server.wait(10)
            assert server.stderr is not None
            # Its standard error closes when the last process that has it is gone.
            reader = threading.Thread(target=server.stderr.read, daemon=True)
            reader.start()
            reader.join(20)
            assert not reader.is_alive()
