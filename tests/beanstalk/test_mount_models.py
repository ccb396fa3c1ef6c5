"""mount_models with a file system that hangs: no hook waits longer than its deadline for it."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.fuse_efs import FuseEfs, fuse_efs
from tests.rigs.get_config import write_get_config
from tests.rigs.project import ROOT

pytestmark = pytest.mark.integration
DEADLINE_S = 2


@pytest.fixture
def efs(tmp_path: Path) -> Iterator[FuseEfs]:
    with fuse_efs(tmp_path) as efs:
        (efs.backing / ".model-store").write_text("1\n")
        yield efs


class Instance:
    """The script with an instance's paths moved, and programs that do nothing for those that change the machine."""

    def __init__(self, folder: Path, efs: FuseEfs) -> None:
        self.folder, self.store, self.root = folder / "instance", folder / "instance/store", efs.root
        programs = self.folder / "programs"
        programs.mkdir(parents=True)
        for name, text in (("runuser", 'shift 3; exec "$@"'), ("mount", "exit 32"), ("chown", ""), ("umount", "")):
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        write_get_config(
            self.folder / "get-config",
            {
                "MODEL_API_EFS_ROOT": str(efs.root),
                "MODEL_API_LOCAL_STORE": str(self.store),
                "EFS_FILE_SYSTEM_ID": "fs-0123456789abcdef0",
                "EFS_MODELS_ACCESS_POINT": "fsap-0123456789abcdef0",
                "EFS_MOUNT_DEADLINE_S": DEADLINE_S,
                "EFS_MOUNT_PAUSE_S": 0,
            },
        )
        (self.folder / "fstab").touch()
        for name in ("properties.sh", "mount_models"):
            text = (ROOT / ".platform/bin" / name).read_text()
            text = text.replace("/opt/elasticbeanstalk/bin/get-config", str(self.folder / "get-config"))
            (self.folder / name).write_text(text.replace("/etc/fstab", str(self.folder / "fstab")))
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    def mount(self, *arguments: str) -> tuple[int, str]:
        """Its status, and all that it said; it must end within a minute."""
        done = subprocess.run(
            ["bash", str(self.folder / "mount_models"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def instance(tmp_path: Path, efs: FuseEfs) -> Instance:
    return Instance(tmp_path, efs)


def test_a_mount_that_answers_is_taken(instance: Instance) -> None:
    status, told = instance.mount()
    assert status == 0, told


def test_a_mount_that_hangs_fails_a_deployment_by_its_deadline(instance: Instance, efs: FuseEfs) -> None:
    efs.hang("/")
    efs.hang("/*")
    try:
        status, told = instance.mount()
    finally:
        efs.heal()
    assert status == 1
    assert f"within {DEADLINE_S} s" in told
    assert "the server hangs" in told


def test_a_property_change_goes_on_with_the_local_copies(instance: Instance, efs: FuseEfs) -> None:
    (instance.store / ("0" * 64)).mkdir(parents=True)
    efs.hang("/")
    efs.hang("/*")
    try:
        status, told = instance.mount("--lenient")
    finally:
        efs.heal()
    assert status == 0, told
    assert "serving from" in told


def test_what_is_left_behind_holds_up_nobody(instance: Instance) -> None:
    """A helper of mount's that nobody can kill: whoever waits for the end of the hook's output isn't kept waiting."""
    mount, helper = instance.folder / "programs/mount", instance.folder / "helper"
    mount.write_text(f"#!/bin/sh\nsetsid sh -c 'echo $$ >{helper}; exec sleep 300' &\nexec sleep 300\n")
    text = (instance.folder / "get-config").read_text()
    (instance.folder / "get-config").write_text(text.replace(str(instance.root), f"{instance.folder}/not-mounted"))
    began = time.monotonic()
    try:
        status, told = instance.mount()
    finally:
        os.kill(int(helper.read_text()), signal.SIGKILL)
    assert (status, time.monotonic() - began < 60) == (1, True)
    assert "can't be mounted" in told
