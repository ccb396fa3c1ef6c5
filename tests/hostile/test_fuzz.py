"""atheris looks for documents that are neither read nor refused, from seeds that once did harm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.model_folders import make_folder
from tests.rigs.project import ROOT
from tests.rigs.stores import new_store, published

HARMFUL = (
    b"[" * 5000,
    b'{"generation": 1e999}',
    b'{"generation": 1' + b"0" * 400 + b"}",
    b'{"generation": 1, "stable": {"version": "1", "digest": "\\ud800"}}',
    b'{"memory_bytes": -1, "files": [{"path": "../x", "size": 100000000000000000, "sha256": "' + b"a" * 64 + b'"}]}',
    b'{"open": "\\ud800", "changes": [["a", "b"]]}',
    b"\xff\xfe" + ("a" * 64 + "  config.json\r\n").encode("utf-16-le"),
    b"SHA256 (../x) = " + b"A" * 64,
    b"\\" + b"a" * 64 + b"  a\\nb",
    b'{"instance": "\\udfff", "heartbeat": 1e999, "models": [[], {"name": {}}]}',
)
N_FORMATS = 6

if sys.version_info[:2] == (3, 11):  # what atheris has wheels for; the other formats' tests run everywhere

    @pytest.mark.integration
    def test_no_document_is_neither_read_nor_refused(tmp_path: Path) -> None:
        seeds = tmp_path / "seeds"
        seeds.mkdir()
        layout = new_store(tmp_path / "efs")
        published(layout, make_folder(tmp_path / "folder"))
        good = [layout.refs("mini"), layout.version("mini", "1") / "manifest.json", layout.generation]
        documents = [*HARMFUL, *(file.read_bytes() for file in good)]
        for number, document in enumerate(documents):
            for chosen in range(N_FORMATS):
                (seeds / f"{number}-{chosen}").write_bytes(bytes([chosen]) + document)
        command = [sys.executable, "-m", "tests.hostile.fuzz_formats", str(seeds), "-seed=1", "-max_len=6000"]
        done = subprocess.run(
            [*command, "-runs=20000", "-max_total_time=40", f"-artifact_prefix={tmp_path}/"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "DONE" in done.stderr or "Done" in done.stderr, done.stderr[-3000:]
