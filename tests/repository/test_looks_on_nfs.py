"""What a look at the store asks of a real NFS 4.1 server: EFS bills each of these operations (docs/deploy.md)."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.model_folders import make_folder
from tests.rigs.nfs_machine import Machine, nfs_site
from tests.rigs.project import ROOT
from tests.rigs.stores import new_store, published

pytestmark = pytest.mark.integration
MODELS = 20
LOOKS = 5
# Between two looks the attributes that the client believes in (actimeo=3) go stale: no look is cheaper than in service.
PROGRAM = f"""
import json, sys, time
from pathlib import Path
from model_api.repository.reader import Repository
from model_api.repository.statuses import beat_status, write_status

def operations():
    counts, lines = {{}}, iter(Path("/proc/self/mountstats").read_text().splitlines())
    for line in lines:
        if " mounted on /mnt/efs " in line:
            break
    for line in lines:
        if line.startswith("device "):
            break
        name, _, figures = line.strip().partition(":")
        if name.isupper() and figures.split() and figures.split()[0].isdigit():
            counts[name] = int(figures.split()[0])
    return counts

def asked(work):
    before = operations()
    for _ in range({LOOKS}):
        time.sleep(3.2)
        work()
    after = operations()
    return {{name: (n - before.get(name, 0)) / {LOOKS} for name, n in after.items() if n > before.get(name, 0)}}

repository = Repository(Path("/mnt/efs"), poll_s=3600.0)
assert len(repository.look()) == {MODELS}
repository.look()
told = {{"unchanged": asked(repository.look), "whole": asked(repository.observe)}}
statuses = Path("/mnt/efs/status")
write_status(statuses, "nfs", {{"models": []}})
told["heartbeat"] = asked(lambda: beat_status(statuses, "nfs"))
print(json.dumps(told))
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with nfs_site(tmp_path, machines=1) as site:
        yield site.machines[0]


def test_what_a_look_asks_of_the_server(machine: Machine, tmp_path: Path) -> None:
    layout = new_store(tmp_path / "export")
    layout.statuses.mkdir()
    folder = make_folder(tmp_path / "folder")
    for number in range(MODELS):
        published(layout, folder, f"m{number}")
    environment = {"PYTHONPATH": str(ROOT)}
    done = machine.run([sys.executable, "-c", PROGRAM], timeout_s=120, environment=environment)
    assert done.returncode == 0, done.stdout
    told = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(told, indent=1))
    unchanged, whole = (sum(told[kind].values()) for kind in ("unchanged", "whole"))
    assert unchanged <= 6
    assert "READ" not in told["unchanged"]  # billed as 32 KiB; the client has what didn't change
    assert whole >= 10 * unchanged
    assert sum(told["heartbeat"].values()) <= 4
    assert "WRITE" not in told["heartbeat"]
