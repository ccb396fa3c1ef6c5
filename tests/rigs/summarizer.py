"""A server with one summarization model, whose longest requests compute for many seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rigs.server import Server, server
from tests.rigs.small_models import save_small_t5
from tests.rigs.small_tokenizers import save_small_tokenizer
from tests.rigs.stores import new_store, published

SHORT = {"model": "summary", "inputs": "the train was late", "parameters": {"max_new_tokens": 8}}
LONG = {
    "model": "summary",
    "inputs": ["the train was late"] * 9,  # one batch
    "parameters": {"min_new_tokens": 512, "max_new_tokens": 512, "num_beams": 8},
}


@contextmanager
def summarizer(folder: Path) -> Iterator[Server]:
    """It serves `summary`, and is ready."""
    save_small_t5(folder / "t5", d_model=256, d_ff=1024, num_layers=6)
    save_small_tokenizer(folder / "t5", max_tokens=512, ends="t5")
    layout = new_store(folder / "efs")
    published(layout, folder / "t5", "summary", task="summarization")
    with server(folder / "api", MODEL_API_EFS_ROOT=layout.root) as api:
        api.wait_until_ready()
        yield api


def processor_ticks(pid: int) -> int:
    """What the process has computed so far, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
