"""What a version's processes may take of the machine. Each sets it on itself before it opens the model's files."""

import contextlib
import os
import resource
from pathlib import Path

from model_api.repository.manifest import Manifest

LEADER_OOM_SCORE, ENCODER_OOM_SCORE, TRIAL_OOM_SCORE = 500, 700, 800  # the web process has 0: it goes last
SLACK = 2  # an estimate is of weights; buffers, compiled code and the allocator's own come on top
SPARE_BYTES = 2**30
VOCABULARIES = ("tokenizer.json", "vocab.txt")
VOCABULARY_FACTOR = (
    64  # a Unigram's trie takes 54 times its file (measured; 813 MB for 250,000 entries), others 9 times
)


def be_ended_before_others(oom_score: int) -> None:
    """When memory runs out the kernel ends the highest score first. Children inherit it; elsewhere than on Linux: no
    effect."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(oom_score))


def bound_memory(manifest: Manifest) -> None:
    """Bound what this process, and each of its children by itself, may allocate from now on (mapped files don't count).
    Beyond it allocations fail, in this process alone."""
    vocabulary_bytes = sum(file.size_bytes for file in manifest.files if file.path in VOCABULARIES)
    estimated_bytes = SLACK * manifest.memory_bytes + VOCABULARY_FACTOR * vocabulary_bytes
    limit_bytes = allocated_bytes() + estimated_bytes + SPARE_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit_bytes = min(limit_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_in_the_background() -> None:
    """Take the processor only when nobody else wants it."""
    os.nice(19)


def allocated_bytes() -> int:
    """Of this process, as RLIMIT_DATA counts them; very many where that can't be told."""
    return _own_bytes("VmData:", 2**32)


def mapped_bytes() -> int:
    """Of this process, as RLIMIT_AS counts them; very many where that can't be told."""
    return _own_bytes("VmSize:", 2**40)


def _own_bytes(name: str, otherwise: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return otherwise
