"""SHA256SUMS as authors' own tools write it."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_api.errors import Refused
from model_api.repository.checksums import SUMS_NAME, compare_sums, format_sums, parse_sums
from model_api.repository.folder_content import hash_folder
from model_api.repository.folder_signature import take_signature
from tests.needs import needs
from tests.rigs.model_folders import make_folder

A, B = "a" * 64, "0123456789abcdef" * 4
PLAIN = f"{A}  config.json\n{B}  1_Pooling/config.json\n"
LISTED = {"config.json": A, "1_Pooling/config.json": B}


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace("  ", " *").encode(),
        PLAIN.upper().replace("CONFIG.JSON", "config.json").replace("1_POOLING", "1_Pooling").encode(),
        PLAIN.replace("  ", "  ./").encode(),
        PLAIN.replace("/", "\\").encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.replace("\n", "\r\n").encode("utf-16-le"),
        PLAIN.encode("utf-16-be"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        f"SHA256 (config.json) = {A}\nSHA256 (1_Pooling/config.json) = {B}\n".encode(),
        f"SHA256 (./config.json) = {A.upper()}\r\nSHA256(1_Pooling/config.json)= {B}\r\n".replace(
            "SHA256(", "SHA256 ("
        ).encode(),
        f"# made by hand\n\n{A}\tconfig.json\n{B}   1_Pooling/config.json\n".encode(),
        f"{PLAIN}{A}  .DS_Store\n{A}  1_Pooling/.DS_Store\n{A}  Thumbs.db\n{B}  ./.git/config\n".encode(),
    ],
)
def test_every_authors_tool_is_understood(data: bytes) -> None:
    assert parse_sums(data) == LISTED


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "lists no files"),
        (f"{A}  .DS_Store\n", "lists no files"),
        ("config.json\n", "not from sha256sum"),
        (f"{A[:-1]}  config.json\n", "not from sha256sum"),
        (f"{A}  ../config.json\n", "stay inside"),
        (f"{A}  /etc/passwd\n", "stay inside"),
        (f"MD5 (config.json) = {A}\n", "not from sha256sum"),
        (f"{A}  config.json\n{B}  config.json\n", "twice"),
    ],
)
def test_what_is_no_list_of_sums_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        parse_sums(text.encode())


@given(st.binary(max_size=300))
@example(b"\x00\xff" * 40)
@example(f"{A}  \\\n".encode())
def test_any_bytes_are_a_list_or_refused(data: bytes) -> None:
    try:
        listed = parse_sums(data)
    except Refused:
        listed = {"refused": A}
    assert listed
    assert all(len(sha256) == 64 for sha256 in listed.values())


def test_what_is_written_is_read_again_and_by_sha256sum(tmp_path: Path) -> None:
    needs("sha256sum")
    folder = make_folder(tmp_path / "a")
    entries = hash_folder("a", folder, take_signature(folder)).files
    (folder / SUMS_NAME).write_text(format_sums((entry.path, entry.sha256) for entry in entries))
    assert parse_sums((folder / SUMS_NAME).read_bytes()) == {entry.path: entry.sha256 for entry in entries}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS_NAME], cwd=folder, check=True)


@pytest.mark.parametrize("options", [[], ["--tag"], ["--binary"]])
def test_real_tools_lists_seal_a_folder(tmp_path: Path, options: list[str]) -> None:
    needs("sha256sum")
    folder = make_folder(tmp_path / "a")
    paths = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    (folder / "Thumbs.db").write_bytes(os.urandom(10))
    made = subprocess.run(["sha256sum", *options, *paths], cwd=folder, capture_output=True, check=True)
    (folder / SUMS_NAME).write_bytes(made.stdout)
    manifest = hash_folder("a", folder, take_signature(folder))
    assert {entry.path for entry in manifest.files} == set(paths)
    config = folder / "config.json"
    assert {e.path: e.sha256 for e in manifest.files}["config.json"] == hashlib.sha256(config.read_bytes()).hexdigest()


def test_the_first_difference_is_named() -> None:
    for have, reason in (
        ({}, "missing; SHA256SUMS lists it"),
        ({**LISTED, "x": A}, "x: not in SHA256SUMS"),
        ({**LISTED, "config.json": B}, "config.json: does not match"),
    ):
        with pytest.raises(Refused, match=reason):
            compare_sums(have, LISTED, SUMS_NAME)
    compare_sums(dict(LISTED), LISTED, SUMS_NAME)
