"""How much memory converting and loading a summarizer takes, as admission expects it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model_api.compute.conversion import conversion_path
from model_api.repository.known_tasks import memory_bytes
from model_api.repository.manifest import FileEntry, Manifest
from model_api.repository.model_folder import check_files, list_files
from model_api.tasks import loading_bytes
from tests.rigs.small_models import save_small_t5
from tests.rigs.small_tokenizers import save_small_tokenizer

# A child's highest memory, less what it has in common with the leader that forked it.
PEAK_OF_A_CONVERSION = """
import re, resource, sys
from pathlib import Path
from typing import Any
from model_api.repository.manifest import FileEntry, Manifest
from model_api.processes.model_side.bring_up import import_runtime
from model_api.tasks.text.summarization import TASK
from model_api.processes.model_side.trial import convert

import_runtime()
shared_kib = int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
manifest = Manifest("t5", "1", "summarization", (FileEntry("config.json", 1, "0" * 64),), 1)
convert(TASK, Path(sys.argv[1]), manifest, sys.argv[2])
print((resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - shared_kib) * 1024)
"""


def t5(folder: Path, **sizes: Any) -> Path:
    save_small_t5(folder, **sizes)
    save_small_tokenizer(folder, max_tokens=64, ends="t5")
    return folder


def manifest(folder: Path, **options: str) -> Manifest:
    needed = memory_bytes(check_files(list_files(folder)), "summarization")
    return Manifest("t5", "1", "summarization", (FileEntry("config.json", 1, "0" * 64),), needed, options)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("weights", ["int8", "float32"])
def test_a_conversion_peaks_below_the_estimate(tmp_path: Path, weights: str) -> None:
    folder = t5(tmp_path, d_model=512, d_ff=2048, num_layers=6)
    done = subprocess.run(
        [sys.executable, "-c", PEAK_OF_A_CONVERSION, str(folder), weights],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    peak_bytes = int(done.stdout.split()[-1])
    estimated_bytes = manifest(folder).memory_bytes
    assert 0.5 * estimated_bytes < peak_bytes < estimated_bytes


def test_a_conversion_that_is_there_is_not_paid_for_again(tmp_path: Path) -> None:
    made = t5(tmp_path, d_model=512, d_ff=2048, num_layers=6)
    first = manifest(made)
    assert loading_bytes(made, first, "auto") == first.memory_bytes
    model = conversion_path(made, "int8") / "model.bin"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"x" * 1000)
    assert loading_bytes(made, first, "auto") == 1000 + 256 * 2**20
    assert loading_bytes(made, first, "float32") == first.memory_bytes
    assert loading_bytes(made, manifest(made, precision="float32"), "auto") == first.memory_bytes
    assert loading_bytes(made, manifest(made, precision="int\0"), "auto") == first.memory_bytes


def test_other_tasks_need_what_their_manifest_says(tmp_path: Path) -> None:
    for task in ("embedding", "unheard-of"):
        other = Manifest("m", "1", task, (FileEntry("config.json", 1, "0" * 64),), 12345)
        assert loading_bytes(tmp_path, other, "auto") == 12345
