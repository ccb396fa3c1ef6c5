"""What a real NFS 4.1 client sees when others change files, and when the server goes away: why models are copied."""

import signal
import sys
import time
from collections.abc import Iterator

import pytest

from tests.rigs.nfs_machine import Machine, NfsSite, nfs_site
from tests.rigs.polling import wait_until

pytestmark = pytest.mark.integration

READ_ENDS_BEFORE_AND_AFTER_A_CHANGE = """
import os
with open("/mnt/efs/weights", "rb", 0) as file:
    first = os.pread(file.fileno(), 4, 0)
    while not os.path.exists("/mnt/efs/changed"):
        os.listdir("/mnt/efs")
    print(first, os.pread(file.fileno(), 4, 7_900_000), os.fstat(file.fileno()).st_size)
"""
TOUCH_A_MAPPING_AFTER_A_CHANGE = """
import mmap, os
with open("/mnt/efs/mapped", "rb") as file:
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
open("/mnt/efs/mapping", "w").close()
while not os.path.exists("/mnt/efs/shrunk"):
    os.listdir("/mnt/efs")
open("/mnt/efs/mapped").close()  # an open asks for the size afresh
print(mapping[7_999_999])
"""
READ_UNTIL_TOLD_TO_STOP = """
import os, time
longest_s = 0.0
started = time.monotonic()
while not os.path.exists("/mnt/efs/stop"):
    with open("/mnt/efs/file") as file:
        assert file.read() == "text\\n"
    now = time.monotonic()
    longest_s, started = max(longest_s, now - started), now
    open("/mnt/efs/reading", "w").close()
print(max(longest_s, time.monotonic() - started))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NfsSite]:
    """Two machines with the options that our Beanstalk configuration mounts with."""
    with nfs_site(tmp_path_factory.mktemp("nfs"), machines=2, memory_mb=512) as running:
        yield running


@pytest.fixture
def author(site: NfsSite) -> Machine:
    return site.machines[0]


@pytest.fixture
def instance(site: NfsSite) -> Machine:
    return site.machines[1]


def shell(machine: Machine, script: str) -> str:
    """The script's output, run in the shared folder. Fails if it fails."""
    done = machine.run(["bash", "-ec", f"cd {machine.efs}; {script}"])
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_it_is_nfs_4_1_with_the_options_asked_for(instance: Machine) -> None:
    mounted = shell(instance, "grep ' /mnt/efs nfs4 ' /proc/mounts")
    for option in ("vers=4.1", "hard", "lookupcache=pos", "acregmax=3", "acdirmax=3", "noresvport"):
        assert option in mounted


def test_machines_are_clients_of_their_own(author: Machine, instance: Machine) -> None:
    """With one name both, each would end the other's session, and calls in flight would fail with EIO now and then."""
    assert shell(author, "cat /proc/sys/kernel/hostname") != shell(instance, "cat /proc/sys/kernel/hostname")


def test_a_file_replaced_by_rename_is_seen_by_the_next_open(author: Machine, instance: Machine) -> None:
    shell(author, "echo 1 > refs; sync refs")
    assert shell(instance, "cat refs") == "1"
    shell(author, "echo 2 > aside; sync aside; mv aside refs")
    started = time.monotonic()
    wait_until(lambda: shell(instance, "cat refs") == "2", within_s=10)
    print(f"seen after {time.monotonic() - started:.1f} s")
    assert time.monotonic() - started < 5  # actimeo=3


def test_a_name_looked_for_in_vain_is_found_as_soon_as_it_is_there(author: Machine, instance: Machine) -> None:
    assert shell(instance, "mkdir -p folder; ls folder/late 2>/dev/null || echo none") == "none"
    shell(author, "echo here > folder/late")
    started = time.monotonic()
    wait_until(lambda: shell(instance, "cat folder/late 2>/dev/null || true") == "here", within_s=10)
    assert time.monotonic() - started < 5  # lookupcache=positive


def test_an_overwrite_in_place_shows_through_an_open_file(author: Machine, instance: Machine) -> None:
    """So a reader that isn't done yet gets a mixture of equal size: only a digest tells."""
    shell(author, "head -c 8000000 /dev/zero > weights; sync weights")
    reader = instance.start(python(READ_ENDS_BEFORE_AND_AFTER_A_CHANGE))
    try:
        wait_until(lambda: "/mnt/efs/weights" in shell(instance, f"readlink /proc/{reader.pid}/fd/* || true"))
        shell(
            author,
            "tr '\\0' x < /dev/zero | head -c 8000000 | dd of=weights conv=notrunc,fsync status=none; touch changed",
        )
        assert reader.wait(20).stdout.strip() == "b'\\x00\\x00\\x00\\x00' b'xxxx' 8000000"
    finally:
        reader.close()


def test_a_mapping_dies_when_the_file_shrinks(author: Machine, instance: Machine) -> None:
    """Which is why nothing maps weights on EFS: the process would be gone, not in error."""
    shell(author, "head -c 8000000 /dev/zero > mapped; sync mapped; rm -f shrunk")
    reader = instance.start(python(TOUCH_A_MAPPING_AFTER_A_CHANGE))
    try:
        wait_until(lambda: shell(author, "ls mapping 2>/dev/null || true"))
        shell(author, "truncate -s 100 mapped; touch shrunk")
        assert reader.wait(20).returncode == -signal.SIGBUS
    finally:
        reader.close()


def test_a_frozen_server_is_a_hang_that_only_death_ends(site: NfsSite, author: Machine, instance: Machine) -> None:
    shell(author, "echo text > file; sync file")
    site.freeze()
    try:
        killed, patient = (instance.start(["cat", "/mnt/efs/file"]) for _ in range(2))
        for reader in (killed, patient):
            with pytest.raises(TimeoutError):
                reader.wait(1)
        assert instance.run(["kill", "-9", str(killed.pid)]).returncode == 0
        assert killed.wait(60).returncode == -signal.SIGKILL
    finally:
        site.thaw()
    assert patient.wait(30).stdout == "text\n"
    killed.close()
    patient.close()


def test_a_machine_cut_off_waits_and_goes_on_when_it_is_back(site: NfsSite, author: Machine, instance: Machine) -> None:
    shell(author, "echo text > file; sync file")
    reader = instance.start(python(READ_UNTIL_TOLD_TO_STOP))
    wait_until(lambda: shell(author, "ls reading 2>/dev/null || true"))
    site.cut_off(instance)
    cut_off_at = time.monotonic()
    try:
        with pytest.raises(TimeoutError):
            reader.wait(3)
        assert shell(author, "cat file") == "text"
        away_s = time.monotonic() - cut_off_at
    finally:
        site.reconnect(instance)
    shell(author, "touch stop")
    ended = reader.wait(60)
    assert ended.returncode == 0, ended.stdout  # no read failed, however long it took
    assert float(ended.stdout) >= away_s - 1
    reader.close()
