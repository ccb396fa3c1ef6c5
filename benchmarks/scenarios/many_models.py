"""Many models on one instance: how long until all are ready, and what they hold in memory.

Tiny ones (64 wide, 2 layers) cost what a model costs whatever its size; MiniLM shows what its weights add. Every
model has weights of its own; models of one kind have one shape.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from safetensors.numpy import load_file, save_file

from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_most, show, table
from benchmarks.servers import Server
from model_api.repository.reader import Repository
from tests.rigs.author import Author
from tests.rigs.models import minilm_folder, tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import Server as OwnServer
from tests.rigs.server import server as own_server

NAME = "many_models"
TITLE = "Many models"
RUNS_ON = ("in-process",)
CASES = (("tiny", 1), ("tiny", 30), ("tiny", 200), ("MiniLM", 1), ("MiniLM", 4))
PATIENCE_S = 900.0


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Cases are named by kind and number. Seconds count from the start of the process."""
    for kind, count in CASES:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "efs").mkdir()
            _publish(Author(folder / "efs"), folder / "model", kind, count)
            values = _served(folder, count)
            yield f"{kind} {count}", {**values, "look_ms": _look_ms(folder / "efs")}


def _cpu_s(pids: Iterable[int]) -> float:
    """Used by these processes, and by children of theirs that have ended."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return total / os.sysconf("SC_CLK_TCK")


def _publish(author: Author, folder: Path, kind: str, count: int) -> None:
    for number in range(count):
        if kind == "tiny":
            tiny_model(folder, seed=number)
        else:
            _other_minilm(folder, number)
        author.publish(folder, f"m{number:03d}")


def _other_minilm(folder: Path, number: int) -> None:
    """The real one with a scale of one norm changed a little, so that no copy is shared."""
    folder.mkdir(exist_ok=True)
    for file in minilm_folder().rglob("*"):
        copy = folder / file.relative_to(minilm_folder())
        if file.is_dir():
            copy.mkdir(exist_ok=True)
        elif file.name != "model.safetensors":
            copy.write_bytes(file.read_bytes())
    tensors = load_file(minilm_folder() / "model.safetensors")
    tensors["embeddings.LayerNorm.weight"] = tensors["embeddings.LayerNorm.weight"] * (1 + number / 1000)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _served(folder: Path, count: int) -> Mapping[str, float]:
    began = time.monotonic()
    with own_server(folder / "api", MODEL_API_EFS_ROOT=folder / "efs") as api:
        first_s: list[float] = []

        def all_serve() -> bool:
            rows = api.get("/models").json()["models"]
            serving = sum(row["state"] == "serving" for row in rows)
            if serving and not first_s:
                first_s.append(time.monotonic() - began)
            return bool(serving == count)

        wait_until(all_serve, within_s=PATIENCE_S, every_s=0.2, what=f"{count} models")
        ready_s, cpu_s = time.monotonic() - began, _cpu_s(api.pids())
        reasons = sum("not enough memory" in str(record) for record in api.log_records())
        pss = _settled_bytes(api)
    return {
        "first_s": first_s[0],
        "ready_s": ready_s,
        "cpu_s": cpu_s,
        "pss_mb": sum(pss.values()) / 1e6,
        "models_mb": (pss["leader"] + pss["lane"]) / 1e6,
        "fork_server_mb": pss["fork_server"] / 1e6,
        "web_mb": (pss["web"] + pss["arbiter"]) / 1e6,
        "out_of_memory": reasons,
    }


def _settled_bytes(api: OwnServer) -> dict[str, int]:
    """PSS by role, of processes that have nothing to do."""
    time.sleep(2.0)
    return api.memory_by_role()


def _look_ms(root: Path) -> float:
    """Processor time of a whole look at an unchanged store."""
    reader, looks = Repository(root), 5
    reader.observe()
    began_s = time.process_time()
    for _ in range(looks):
        reader.observe()
    return (time.process_time() - began_s) / looks * 1000


def table_of(results: Results) -> str:
    rows = []
    for kind, count in CASES:
        found = _figures(results, kind, count)
        if found["ready_s"] is None:
            continue
        rows.append([f"{count} {kind}", *(show(value) for value in found.values())])
    head = [
        "models",
        "first ready, s",
        "all ready, s",
        "processor, s",
        "PSS of all, MB",
        "PSS a further model, MB",
        "a whole look, ms",
    ]
    return table(head, rows)


def _figures(results: Results, kind: str, count: int) -> dict[str, float | None]:
    def median(value: str, of: int = count) -> float | None:
        return results.median("in-process", NAME, f"{kind} {of}", value)

    alone, together = median("pss_mb", 1), median("pss_mb")
    further = None if count == 1 or alone is None or together is None else (together - alone) / (count - 1)
    return {
        "first_s": median("first_s"),
        "ready_s": median("ready_s"),
        "cpu_s": median("cpu_s"),
        "pss_mb": together,
        "further_mb": further,
        "look_ms": median("look_ms"),
    }


def targets(results: Results) -> Iterator[Outcome]:
    many, some = _figures(results, "tiny", 200), _figures(results, "tiny", 30)
    yield at_most("200 tiny models ready: at most 60 s after the start", many["ready_s"], 60.0, "s")
    yield at_most("30 tiny models: at most 25 MB of memory each", some["further_mb"], 25.0, "MB")
    yield at_most("a whole look at 200 models: at most 8 ms of a core", many["look_ms"], 8.0, "ms")
    parts = [results.median("in-process", NAME, "MiniLM 1", name) for name in ("models_mb", "fork_server_mb")]
    first_mb = sum(part for part in parts if part is not None) if None not in parts else None
    yield at_most("the first MiniLM, with the fork server: at most 350 MB", first_mb, 350.0, "MB")
    further = _figures(results, "MiniLM", 4)
    weights_mb = (minilm_folder() / "model.safetensors").stat().st_size / 1e6 / 2  # served in bfloat16
    text = "each further MiniLM: at most its weights in bfloat16 and 40 MB"
    yield at_most(text, further["further_mb"], weights_mb + 40.0, "MB")
