"""A web process that is killed takes nothing along: its successor answers from the processes that are loaded already,
and nobody else ever does; what no successor asks for ends."""

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from model_api.processes.keeping import SUCCESSOR_TIMEOUT_S
from tests.rigs.polling import wait_until
from tests.rigs.server import Server
from tests.rigs.traffic import traffic

pytestmark = pytest.mark.integration
BODY = {"model": "tiny", "inputs": ["the cat", "the dog was published once"]}


def kill_web(api: Server) -> int:
    """The pid of the next web process."""
    (web,) = api.pids_by_role()["web"]
    os.kill(web, signal.SIGKILL)
    return successor(api, web)


def successor(api: Server, web: int) -> int:
    new: list[int] = wait_until(
        lambda: [pid for pid in api.pids_by_role()["web"] if pid != web], within_s=30, what="a web process"
    )
    return new[0]


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_its_successor_takes_over_what_is_loaded(api: Server) -> None:
    before, roles = api.post("/predict", BODY).json(), api.pids_by_role()
    with traffic(api, "tiny", callers=4) as seen:
        seen.wait_for(50)
        for _ in range(2):
            kill_web(api)
            api.wait_for_model("tiny", state="serving")
            seen.wait_for(50)
    assert api.post("/predict", BODY).json() == before
    after = api.pids_by_role()
    assert after["web"] != roles["web"]
    assert (after["fork_server"], after["leader"]) == (roles["fork_server"], roles["leader"])
    assert len(after["lane"]) == 2
    assert not set(after["lane"]) & set(roles["lane"])  # with what they computed for who is gone
    assert {one.status for one in seen.told} <= {200, 0}  # who was in the middle got nothing; nobody else noticed
    stages = [stage["stage"] for stage in api.get("/models/tiny").json()["versions"][0]["timeline"]]
    assert stages == ["starting", "adopting", "ready"]


def test_killed_again_while_it_takes_over(api: Server) -> None:
    before, leaders = api.post("/predict", BODY).json(), api.pids_by_role()["leader"]
    for _ in range(3):
        os.kill(kill_web(api), signal.SIGKILL)
        api.wait_for_status("/healthz", 200)
    api.wait_until_ready()
    wait_until(lambda: api.post("/predict", BODY).status == 200, within_s=60)
    assert api.post("/predict", BODY).json() == before
    assert api.pids_by_role()["leader"] == leaders


def test_one_that_hangs_keeps_what_it_has_and_another_gets_its_own(api: Server) -> None:
    before, roles = api.post("/predict", BODY).json(), api.pids_by_role()
    (arbiter,), (web,) = roles["arbiter"], roles["web"]
    os.kill(web, signal.SIGSTOP)
    try:
        os.kill(arbiter, signal.SIGHUP)
        successor(api, web)
        wait_until(lambda: len(api.pids_by_role()["leader"]) == 2, within_s=60)
        wait_until(lambda: len(api.pids_by_role()["lane"]) == 4, within_s=60)
        wait_until(lambda: api.post("/predict", BODY).status == 200, within_s=60)
        assert api.post("/predict", BODY).json() == before
        assert set(roles["lane"]) < set(api.pids_by_role()["lane"])
    finally:
        os.kill(web, signal.SIGCONT)
    # What it was told while it hung it does now: it drains, and ends with all that was its own.
    wait_until(lambda: gone([web, *roles["leader"], *roles["lane"]]), within_s=60, what="an end of the old one")
    assert api.post("/predict", BODY).json() == before


def test_the_fork_server_is_killed_before_it(api: Server) -> None:
    before, roles = api.post("/predict", BODY).json(), api.pids_by_role()
    os.kill(roles["fork_server"][0], signal.SIGKILL)
    wait_until(lambda: gone([*roles["leader"], *roles["lane"]]))
    wait_until(lambda: api.post("/predict", BODY).status == 200, within_s=60)
    leaders = api.pids_by_role()["leader"]
    kill_web(api)
    wait_until(lambda: api.post("/predict", BODY).status == 200, within_s=60)
    assert api.post("/predict", BODY).json() == before
    assert api.pids_by_role()["leader"] == leaders


def test_both_are_killed_at_once(api: Server) -> None:
    before, roles = api.post("/predict", BODY).json(), api.pids_by_role()
    for role in ("fork_server", "web"):
        os.kill(roles[role][0], signal.SIGKILL)
    wait_until(lambda: gone([*roles["leader"], *roles["lane"]]))
    successor(api, roles["web"][0])
    api.wait_until_ready()
    assert api.post("/predict", BODY).json() == before


def test_a_stopped_fork_server_is_no_hindrance(api: Server) -> None:
    before, roles = api.post("/predict", BODY).json(), api.pids_by_role()
    (stopped,) = roles["fork_server"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        kill_web(api)
        api.wait_until_ready()
        assert api.post("/predict", BODY).json() == before
        wait_until(lambda: gone(roles["lane"]))
    finally:
        os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: gone([stopped, *roles["leader"]]), within_s=SUCCESSOR_TIMEOUT_S + 20)
    assert api.post("/predict", BODY).json() == before


def test_a_stopped_leader_is_ended_and_its_version_loaded_anew(api: Server) -> None:
    before, roles = api.post("/predict", BODY).json(), api.pids_by_role()
    os.kill(roles["leader"][0], signal.SIGSTOP)
    kill_web(api)
    wait_until(lambda: gone(roles["leader"]), within_s=60, what="an end of the stopped one")
    wait_until(lambda: api.post("/predict", BODY).status == 200, within_s=60)
    assert api.post("/predict", BODY).json() == before


def test_a_stop_in_the_middle_of_taking_over_leaves_nothing(api: Server) -> None:
    for _ in range(3):
        kill_web(api)
        api.stop()  # fails if a process is left
        api.start()
        api.wait_until_ready()


def test_a_killed_arbiter_leaves_nothing(api: Server) -> None:
    pids = api.pids()
    os.kill(api.pids_by_role()["arbiter"][0], signal.SIGKILL)
    wait_until(lambda: not any(pid in api.pids() for pid in pids), within_s=30, what="an end of all its processes")
    with suppress(AssertionError):  # what ended isn't stopped again
        api.stop()
    api.start()


def test_without_a_successor_they_end(api: Server) -> None:
    roles = api.pids_by_role()
    (arbiter,) = roles["arbiter"]
    os.kill(arbiter, signal.SIGSTOP)  # nobody starts the next one
    try:
        os.kill(roles["web"][0], signal.SIGKILL)
        wait_until(lambda: not set(api.pids()) & set(roles["lane"]), what="an end of the lanes")
        left = {*roles["leader"], *roles["fork_server"]}
        wait_until(lambda: not set(api.pids()) & left, within_s=SUCCESSOR_TIMEOUT_S + 20, what="an end of the rest")
    finally:
        os.kill(arbiter, signal.SIGCONT)
    wait_until(lambda: api.pids_by_role()["leader"], within_s=60, what="a load anew")


def test_what_is_no_longer_published_ends_and_what_is_new_is_loaded(api: Server) -> None:
    """What the last process saw is adopted first, and then goes as it would have gone there."""
    assert api.get("/models").json()
    roles = api.pids_by_role()
    (remembered,) = Path(api.log_path.parent / "store").glob("*.json")
    document = json.loads(remembered.read_text())
    remembered.write_text(json.dumps(document | {"models": {}}))
    kill_web(api)
    api.wait_until_ready()
    assert api.post("/predict", BODY).status == 200  # seen at the first look, and adopted as well
    assert api.pids_by_role()["leader"] == roles["leader"]
