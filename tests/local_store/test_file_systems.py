"""Which file system a path lies on."""

from pathlib import Path

from model_api.local_store.file_systems import LOCAL_TYPES, file_system_type


def test_the_innermost_mount_counts(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda rw\n23 22 0:5 / /efs rw - nfs4 x rw\n24 22 0:6 / /a\\040b rw - fuse.x x rw\n"
    )
    assert file_system_type(Path("/efs/models"), mountinfo) == "nfs4"
    assert file_system_type(Path("/efsother"), mountinfo) == "ext4"
    assert file_system_type(Path("/a b/c"), mountinfo) == "fuse.x"
    assert file_system_type(Path("/"), tmp_path / "absent") == ""


def test_this_machines_own_disk_is_local(tmp_path: Path) -> None:
    assert file_system_type(tmp_path) in LOCAL_TYPES
