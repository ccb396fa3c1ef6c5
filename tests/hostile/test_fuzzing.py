"""Short runs of atheris over everything that reads strangers' files and requests; fuzzing.py has longer ones."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import missing
from tests.rigs.model_folders import make_folder, safetensors_bytes
from tests.rigs.models import tiny_model
from tests.rigs.project import ROOT

pytestmark = pytest.mark.integration
RUNS = 2000
EXAMPLE = ROOT / "efs_layout" / "example" / "models" / "example"
FILES = ("tokenizer", "safetensors", "documents", "character_map", "manifest", "refs", "sums", "generation", "status")
TARGETS = (*FILES, "requests", "body")


def seeds(target: str, folder: Path) -> list[bytes]:
    model = tiny_model(folder / "model", seed=1)
    if target == "tokenizer":
        document = json.loads((model / "tokenizer.json").read_text())
        document["model"]["vocab"] = {"[UNK]": 0, "a": 1}
        replace = {"type": "Replace", "pattern": {"Regex": "^(?:§|§)*a"}, "content": "§§"}
        return [json.dumps(document).encode(), json.dumps({**document, "normalizer": replace}).encode()]
    if target == "safetensors":
        bomb = b'{"t":{"dtype":"F32","shape":[' + b"9" * 300 + b'],"data_offsets":[0,4]}}'
        return [safetensors_bytes({"a": (2, 3), "b": (1,)}), len(bomb).to_bytes(8, "little") + bomb, b"\xff" * 64]
    if target == "documents":
        whole = make_folder(folder / "whole")
        return [(whole / "config.json").read_bytes() + b"\0" + (whole / "modules.json").read_bytes(), b"[" * 500]
    if target == "manifest":
        return [(EXAMPLE / "versions" / "1" / "manifest.json").read_bytes(), b'{"memory_bytes": 1e999}']
    if target == "refs":
        return [(EXAMPLE / "refs.json").read_bytes(), b'{"generation": "\\ud800"}']
    if target == "sums":
        windows = b"\xff\xfe" + ("A" * 64 + "  1_Pooling\\config.json\r\n").encode("utf-16-le")
        return [b"0" * 64 + b"  model.safetensors\n", b"0" * 64 + b" *../x\n", b"SHA256 (a) = " + b"0" * 64, windows]
    if target == "generation":
        return [b'{"open": "m", "changes": [["a", "m"], ["b", "n"]]}', b'{"open": "\\ud800", "changes": [1e999]}']
    if target == "status":
        row = b'{"name": "m", "digest": "d", "state": "serving", "versions": [{"digest": "d"}], "refused": [{}]}'
        return [b'{"instance": "i", "heartbeat": 7, "models": [' + row + b"]}", b'{"instance": "\\udfff"}']
    if target == "requests":
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
        chunks = head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{...}\r\n|0;e=1\r\nX-Trailer: y\r\n\r\n"
        offer = head + b"Upgrade: h2c\r\nConnection: Upgrade\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{|}"
        return [chunks, offer, b"PUT http://x/y HTTP/1.0\r\nContent-Length: 9\r\n\r\n", b"\x16\x03\x01"]
    if target == "body":
        return [b'{"a": [1e999, "\\ud800", "\\\\"]}', b"[" * 70, b"\xef\xbb\xbf{}", b'{"a":"' + b"\\" * 99]
    return [(1024).to_bytes(4, "little") + bytes(1024) + b"a\0"]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_but_a_refusal_comes_of_any_bytes(target: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("atheris isn't installed: requirements-dev.txt")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds(target, tmp_path)):
        (corpus / str(number)).write_bytes(seed)
    options = [
        f"-runs={RUNS}",
        "-seed=1",
        "-max_len=8192",
        "-timeout=20",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={tmp_path}/",
    ]
    command = [sys.executable, "-m", "tests.hostile.fuzzing", target, *options, str(corpus)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"Done {RUNS} runs" in done.stderr or "DONE" in done.stderr
