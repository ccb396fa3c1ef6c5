"""Our fstab line against the option rules of efs-utils' mount helper, as scripts/rehearsal/mount_efs.py has them."""

import subprocess

import pytest

from scripts.rehearsal.mount_efs import broken_rules, parse
from tests.rigs.project import ROOT

SCRIPT = ROOT / ".platform" / "bin" / "mount_models"
ACCESS_POINT = "fsap-0123456789abcdef0"


def line(folder: str, mode: str) -> list[str]:
    """The fields of the line that mount_models enters, from its own functions."""
    text = SCRIPT.read_text()
    functions = [row for row in text.splitlines() if row.startswith(("common=", "fstab_line()"))]
    assert len(functions) == 2
    script = "\n".join(["file_system=fs-0123456789abcdef0", *functions, f"fstab_line {folder} {ACCESS_POINT} {mode}"])
    return subprocess.run(["bash", "-euc", script], check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_the_line_keeps_every_rule(mode: str) -> None:
    source, folder, kind, options, dump, check = line("/efs", mode)
    assert (folder, kind, dump, check) == ("/efs", "efs", "0", "0")
    assert broken_rules(source, parse(options)) == []


def test_the_models_are_mounted_as_promised() -> None:
    options = parse(line("/efs", "ro")[3])
    assert {"tls", "iam", "ro", "_netdev", "nofail"} <= set(options)
    assert options["accesspoint"] == ACCESS_POINT
    assert options["lookupcache"] == "positive"  # a name once missing is asked for again
    assert 0 < int(str(options["actimeo"])) <= 5  # attributes and names lag by seconds, not a minute
    assert "nconnect" not in options  # EFS doesn't have it


@pytest.mark.parametrize(
    ("source", "options", "complaint"),
    [
        ("fs-0123:/", "iam", "iam needs tls"),
        ("fs-0123:/", f"accesspoint={ACCESS_POINT}", "accesspoint needs tls"),
        ("fs-0123:/", "tls,accesspoint=fsap-12", "malformed"),
        ("fs-0123:/", "tls,port=2049", "tls and port"),
        ("fs-0123:/", "tls,notls", "tls and notls"),
        ("fs-0123:/", "tls,awsprofile=x", "credentials need iam"),
        ("fs-0123:/", "tls,nconnect=4", "unknown option nconnect"),
        ("server:/", "tls", "no file system id"),
    ],
)
def test_the_rules_find_mistakes(source: str, options: str, complaint: str) -> None:
    assert complaint in "\n".join(broken_rules(source, parse(options)))
