""".platform/bin/install_fleet: boto3 for the jobs of a fleet, drivers for a database elsewhere, and for nobody else."""

import json
import subprocess
from pathlib import Path

from tests.rigs.project import ROOT


def install(folder: Path, properties: dict[str, str], pip_status: int = 0) -> subprocess.CompletedProcess[str]:
    """The hook with these properties, in a bundle under `folder`; Beanstalk's Python notes how it is called."""
    python = folder / "var/app/venv/one/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$*" >>{folder}/called\nexit {pip_status}\n')
    python.chmod(0o755)
    get_config = folder / "get-config"
    get_config.write_text(f"#!/bin/sh\necho '{json.dumps(properties)}'\n")
    get_config.chmod(0o755)
    scripts = folder / "bundle/.platform/bin"
    scripts.mkdir(parents=True)
    for name in ("properties.sh", "install_fleet"):
        text = (ROOT / ".platform/bin" / name).read_text().replace("/var/app/venv", f"{folder}/var/app/venv")
        (scripts / name).write_text(text.replace("/opt/elasticbeanstalk/bin/get-config", str(get_config)))
    return subprocess.run(["bash", str(scripts / "install_fleet")], capture_output=True, text=True, timeout=60)


def test_a_fleet_gets_it(tmp_path: Path) -> None:
    done = install(tmp_path, {"MODEL_API_JOBS_TABLE": "jobs"})
    assert done.returncode == 0, done.stderr
    called = (tmp_path / "called").read_text()
    assert called.startswith("-m pip")
    assert called.strip().endswith("requirements-fleet.txt")


def test_who_keeps_the_history_elsewhere_gets_its_drivers(tmp_path: Path) -> None:
    done = install(tmp_path, {"MODEL_API_DATABASE_URL": "postgresql://history@db.internal/history"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "called").read_text().strip().endswith("requirements-database.txt")


def test_both_are_installed_where_both_are_set_up(tmp_path: Path) -> None:
    both = {"MODEL_API_DATABASE_URL": "mysql://db.internal/history", "MODEL_API_JOBS_TABLE": "jobs"}
    assert install(tmp_path, both).returncode == 0
    assert [line.rpartition("/")[2] for line in (tmp_path / "called").read_text().splitlines()] == [
        "requirements-fleet.txt",
        "requirements-database.txt",
    ]


def test_a_file_needs_no_driver(tmp_path: Path) -> None:
    assert install(tmp_path, {"MODEL_API_DATABASE_URL": "sqlite:////var/lib/history.sqlite"}).returncode == 0
    assert not (tmp_path / "called").exists()


def test_others_do_not(tmp_path: Path) -> None:
    assert install(tmp_path, {}).returncode == 0
    assert not (tmp_path / "called").exists()


def test_a_fleet_without_it_is_not_deployed(tmp_path: Path) -> None:
    done = install(tmp_path, {"MODEL_API_JOBS_TABLE": "jobs"}, pip_status=1)
    assert done.returncode != 0
    assert "requirements-fleet.txt can't be installed" in done.stderr
