"""Publishing, promoting and going back under load: no failed request, and never an answer of other weights."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from model_api.repository.refs import Ref
from tests.rigs.author import Author
from tests.rigs.models import BertSize, tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server
from tests.rigs.traffic import Told, latency_report, traffic

pytestmark = pytest.mark.integration

VERSIONS = 20
# Large enough for a leaked version to show: 37 MB of weights.
SIZE = BertSize(hidden=256, layers=2, heads=4, ffn=1024, vocabulary=30_000)


@dataclass(frozen=True)
class Change:
    """`digest` may answer from `begun_at`; its predecessor must not answer what was sent after `seen_at`."""

    digest: str
    begun_at: float
    seen_at: float


def was_serving(one: Told, changes: Sequence[Change]) -> bool:
    """Whether the digest of this answer was one that served at some moment between question and answer."""
    # A change that nobody waited for has arrived at the latest with the next one that somebody waited for.
    ends = [min(change.seen_at for change in changes[i:]) for i in range(1, len(changes))] + [math.inf]
    return any(
        change.digest == one.digest and change.begun_at <= one.told_at and one.sent_at <= end
        for change, end in zip(changes, ends, strict=True)
    )


def reference_vector(folder: Path, text: str) -> list[float]:
    """transformers' own answer in float32: the last layer's [CLS] vector."""
    import torch
    from tokenizers import Tokenizer
    from transformers import BertModel
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    model = BertModel.from_pretrained(folder)
    model.eval()
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    with torch.no_grad():
        vector: list[float] = model(torch.tensor([ids])).last_hidden_state[0, 0].tolist()
    return vector


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def settled_memory_bytes(api: Server) -> int:
    """Its memory once one version alone is loaded."""
    wait_until(lambda: len(api.pids_by_role()["leader"]) == 1, within_s=60, what="an end of the other versions")
    return api.memory_bytes()


def test_twenty_changes_under_load(tmp_path: Path) -> None:
    author = Author(tmp_path / "efs")
    folders: dict[str, Path] = {}

    def publish(seed: int) -> str:
        folder = tiny_model(tmp_path / f"model-{seed}", seed, SIZE)
        digest = author.publish(folder, "m").digest
        folders[digest] = folder
        return digest

    first = publish(0)
    with server(tmp_path / "instance", MODEL_API_EFS_ROOT=author.layout.root) as api:
        api.wait_until_ready()
        with traffic(api, "m", callers=3, pause_s=0.02) as warm_up:
            warm_up.wait_for(200)
        one_model_bytes = settled_memory_bytes(api)
        changes = [Change(first, 0.0, 0.0)]

        def change(act: Callable[[], str], *, wait: bool = True) -> None:
            begun_at = time.monotonic()
            digest = act()
            if wait:
                api.wait_for_model("m", digest=digest, state="serving")
            changes.append(Change(digest, begun_at, time.monotonic() if wait else math.inf))

        with traffic(api, "m", callers=3, pause_s=0.02) as callers:
            for number in range(1, VERSIONS + 1):
                # Some changes come before the one before them has arrived.
                change(partial(publish, number), wait=number % 5 != 0)
                if number % 3 == 0:
                    change(lambda: author.rollback("m").digest, wait=number % 2 == 0)
                if number % 6 == 0:
                    change(lambda: author.promote("m", "1").digest)
            change(lambda: author.promote("m", str(VERSIONS)).digest)
            callers.wait_for(100)
            settled_bytes = settled_memory_bytes(api)
            callers.wait_for(100)
        n_digests = len({one.digest for one in callers.told})
        print(f"\n{len(changes) - 1} changes; {latency_report(callers.told)}; {n_digests} digests answered")
        print(f"memory {one_model_bytes / 1e6:.0f} MB with one model, {settled_bytes / 1e6:.0f} MB after the changes")
    assert callers.failures() == []
    assert [one for one in callers.told if not was_serving(one, changes)] == []
    answers: dict[tuple[str, str], set[tuple[float, ...]]] = {}
    for one in [*warm_up.told, *callers.told]:
        answers.setdefault((one.digest, one.text), set()).add(one.vector)
    for (digest, text), vectors in answers.items():
        assert len(vectors) == 1  # the same weights give the same answer, bit for bit, whatever shared its batch
        assert cosine(next(iter(vectors)), reference_vector(folders[digest], text)) > 0.999
    assert abs(settled_bytes - one_model_bytes) <= 0.1 * one_model_bytes


def test_two_instances_converge_on_each_change(tmp_path: Path) -> None:
    author = Author(tmp_path / "efs")
    author.publish(tiny_model(tmp_path / "model-1", 1), "m")
    settings = {"MODEL_API_EFS_ROOT": author.layout.root, "MODEL_API_LANES": 1}
    with server(tmp_path / "a", **settings) as a, server(tmp_path / "b", **settings) as b:
        a.wait_until_ready()
        b.wait_until_ready()
        second = author.publish(tiny_model(tmp_path / "model-2", 2), "m")
        changes: list[Callable[[], Ref]] = [
            lambda: second,
            lambda: author.rollback("m"),
            lambda: author.promote("m", "2"),
        ]
        for change in changes:
            ref = change()
            told = []
            for instance in (a, b):
                instance.wait_for_model("m", version=ref.version, digest=ref.digest, state="serving")
                told.append(instance.post("/predict", {"model": "m", "inputs": "the cat"}).json())
            assert told[0] == told[1]
            assert told[0]["digest"] == ref.digest
