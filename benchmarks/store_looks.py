"""What a fleet's looks at its store cost: file operations a second, and the time until all have seen a publish.

    python -m benchmarks.store_looks [--instances 100] [--models 200] [--minutes 20]

Every instance is the real reader on one real store, on a clock that only this program moves; nothing is loaded.
Counted is each open, listing and stat below the store's root. "A whole look at every poll" is what instances did
without the store's generation. A look's processor time is this machine's.
"""

import argparse
import heapq
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_api.publishing.moves import promote
from model_api.repository.layout import Layout
from model_api.repository.published import Published
from model_api.repository.reader import Repository
from tests.rigs.model_folders import make_folder
from tests.rigs.stores import new_store, published

POLL_S = 2.0
WATCHED = ("open", "scandir", "listdir", "stat", "lstat")


@dataclass
class Fleet:
    """Instances on one clock; `seen_s` is when each first saw the version that is waited for."""

    layout: Layout
    n_instances: int
    now_s: float = 0.0
    operations: Counter[int] = field(default_factory=Counter)  # by second
    by_kind: Counter[str] = field(default_factory=Counter)
    seen_s: dict[int, float] = field(default_factory=dict)
    look_cpu_s: list[float] = field(default_factory=list)

    def start(self, remembered: Mapping[str, Published] | None = None) -> None:
        """All of them within a tenth of a second: for the first time, or again, with what they `remembered`."""
        self._readers = [
            Repository(self.layout.root, clock=lambda: self.now_s, poll_s=POLL_S) for _ in range(self.n_instances)
        ]
        for reader in self._readers:
            reader.seed(remembered or {})
        self._next = [
            (self.now_s + random.uniform(0.0, 0.1) + reader.pause_before_first_s(), number)
            for number, reader in enumerate(self._readers)
        ]
        heapq.heapify(self._next)

    def run_until(self, end_s: float, waited_for: str = "") -> None:
        while self._next[0][0] < end_s:
            self.now_s, number = heapq.heappop(self._next)
            reader = self._readers[number]
            before, began_s = sum(self.by_kind.values()), time.process_time()
            with counted(self.layout.root, self.by_kind):
                seen = reader.look()
            self.look_cpu_s.append(time.process_time() - began_s)
            self.operations[int(self.now_s)] += sum(self.by_kind.values()) - before
            refs = seen["m000"].refs if seen else None
            if refs is not None and refs.stable is not None and refs.stable.version == waited_for:
                self.seen_s.setdefault(number, self.now_s)
            heapq.heappush(self._next, (self.now_s + reader.pause_s * random.uniform(0.9, 1.1), number))
        self.now_s = end_s

    def tell_start(self, what: str) -> None:
        """Of a start that was just ordered: run it for a minute."""
        began_s = self.now_s
        self.run_until(began_s + 120.0)
        first = [self.operations[int(began_s) + second] for second in range(120)]
        print(f"{what}: {sum(first[:3]):8.0f} operations in three seconds, at most {max(first):.0f} in one;")
        print(f"{'':26} in the two minutes after that at most {max(first[3:])} in one second")

    def rate(self, begin_s: float, end_s: float) -> float:
        return sum(n for second, n in self.operations.items() if begin_s <= second < end_s) / (end_s - begin_s)


@contextmanager
def counted(root: Path, into: Counter[str]) -> Iterator[None]:
    """Count what is asked of the files below `root`, on any thread."""
    real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in WATCHED}

    def wrap(name: str) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if not isinstance(path, int) and os.fspath(path).startswith(str(root)):
                into[name] += 1
            return real[name](path, *arguments, **options)

        return call

    for name in WATCHED:
        setattr(os, name, wrap(name))
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def make_store(root: Path, n_models: int) -> Layout:
    layout = new_store(root)
    for seed in (1, 2):
        published(layout, make_folder(root.parent / f"folder-{seed}", seed), "m000")
    refs, manifest = layout.refs("m000").read_text(), layout.version("m000", "2") / "manifest.json"
    for number in range(1, n_models):  # as publish would leave it, without two hundred publishes
        name = f"m{number:03d}"
        for version in ("1", "2"):
            folder = layout.version(name, version)
            folder.mkdir(parents=True)
            text = (layout.version("m000", version) / manifest.name).read_text().replace('"m000"', f'"{name}"')
            (folder / manifest.name).write_text(text)
        layout.refs(name).write_text(refs)
    return layout


def before(layout: Layout, n_instances: int) -> tuple[float, float]:
    """File operations a second of the fleet where every poll is a whole look, and milliseconds of a look."""
    reader, by_kind, looks = Repository(layout.root), Counter[str](), 5
    reader.observe()
    began_s = time.process_time()
    with counted(layout.root, by_kind):
        for _ in range(looks):
            reader.observe()
    return sum(by_kind.values()) / looks / POLL_S * n_instances, (time.process_time() - began_s) / looks * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=20.0)
    parsed = parser.parse_args()
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        layout = make_store(Path(folder) / "efs", parsed.models)
        rate, look_ms = before(layout, parsed.instances)
        print(f"{parsed.instances} instances, {parsed.models} models, one look every {POLL_S:g} s")
        print(f"a whole look at every poll: {rate:8.0f} operations/s, {look_ms:.1f} ms of processor time a look")
        fleet = Fleet(layout, parsed.instances)
        fleet.start()
        fleet.tell_start("all start together        ")
        fleet.start(Repository(layout.root).observe())
        fleet.tell_start("all are restarted together")
        quiet_s = fleet.now_s + parsed.minutes * 60
        fleet.run_until(quiet_s)
        print(f"after {parsed.minutes:g} quiet minutes:    {fleet.rate(quiet_s - 300, quiet_s):8.1f} operations/s")
        fleet.look_cpu_s.clear()
        promote(layout, "m000", "1")
        fleet.run_until(quiet_s + 60, waited_for="1")
        seen = sorted(at - quiet_s for at in fleet.seen_s.values())
        assert len(seen) == parsed.instances, f"only {len(seen)} instances saw the change"
        print(f"a promote then is seen by half after {seen[len(seen) // 2]:.1f} s, by all after {seen[-1]:.1f} s")
        print(f"the minute after it:        {fleet.rate(quiet_s, quiet_s + 60):8.0f} operations/s")
        began_s = fleet.now_s
        fleet.seen_s.clear()
        promote(layout, "m000", "2")
        fleet.run_until(began_s + 30, waited_for="2")
        seen = sorted(at - began_s for at in fleet.seen_s.values())
        print(f"a second one is seen by half after {seen[len(seen) // 2]:.1f} s, by all after {seen[-1]:.1f} s")
        cpu = sorted(fleet.look_cpu_s)
        print(
            f"a look: {cpu[len(cpu) // 2] * 1000:.2f} ms of processor time in the middle, {cpu[-1] * 1000:.1f} at most"
        )


if __name__ == "__main__":
    main()
