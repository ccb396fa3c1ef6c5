"""The drop-in of .ebextensions/50-service.config under a real systemd, on a unit as the platform writes it."""

import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.rehearsal.ebextensions import extensions_of
from scripts.rehearsal.skeleton import WEB_SERVICE
from tests.beanstalk import systemd_check
from tests.rigs.project import ROOT
from tests.rigs.systemd_machine import run_under_systemd

pytestmark = pytest.mark.integration
DROP_IN = "web.service.d/10-model-api.conf"
CONTENT = extensions_of(ROOT / ".ebextensions").section("files")[f"/etc/systemd/system/{DROP_IN}"]["content"]
# A machine that is small for the application; without swap, as Beanstalk's are.
SMALL = "MemoryMax=120M\nMemorySwapMax=0\n"


def unit(check: Path) -> str:
    """web.service, but for the folder and the file that the engine fills."""
    command = f"{Path(sys.executable).resolve()} {check} web"
    kept = [line for line in WEB_SERVICE.splitlines() if not line.startswith(("EnvironmentFile", "WorkingDirectory"))]
    return "\n".join(kept).replace("@COMMAND@", command) + "\n" + SMALL


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What systemd_check.py saw."""
    check = Path(systemd_check.__file__)
    units = {
        "web.service": unit(check),
        DROP_IN: CONTENT,
        "plain.service": unit(check).replace("web.stdout.log", "plain.log").replace("Restart=always", "Restart=no"),
        "crashing.service": "[Service]\nExecStart=/bin/false\nRestart=always\n",
        DROP_IN.replace("web.", "crashing."): CONTENT.replace("web.stdout.log", "crashing.log"),
    }
    return run_under_systemd(tmp_path_factory.mktemp("machine"), units, check)


def test_a_child_out_of_memory_ends_alone(seen: Any) -> None:
    assert seen["before"]["OOMPolicy"] == "continue"
    assert seen["before"]["LimitNOFILE"] == "65536"
    assert seen["after"]["ActiveState"] == "active"
    assert (seen["after"]["MainPID"], seen["after"]["NRestarts"]) == (seen["before"]["MainPID"], "0")
    assert seen["rest"][-1] == {"child": -9}
    # What the drop-in is for: systemd's own default ends the whole service.
    assert (seen["plain"]["OOMPolicy"], seen["plain"]["Result"]) == ("stop", "oom-kill")


def test_many_lines_come_raw_and_whole_and_many_files_may_be_open(seen: Any) -> None:
    assert seen["numbers"]
    assert seen["others"] == ["on the other stream"]  # in the same file
    assert seen["rest"][0] == {"files": 65536, "uid": 900}


def test_an_application_that_ends_at_once_is_started_again_and_again(seen: Any) -> None:
    assert int(seen["crashing"]["NRestarts"]) > systemd_check.N_STARTS
    assert seen["crashing"]["ActiveState"] != "failed"
