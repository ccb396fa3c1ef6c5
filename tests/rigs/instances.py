"""Instances as their authors see them: each reads the refs of a store and writes a status, without loading anything.

They decide by the real planning rules, at once; `refuses` names the digests that a load would refuse.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from model_api.instance.planning import Phase, plan
from model_api.publishing.changes import read_refs
from model_api.repository.layout import Layout
from model_api.repository.refs import Ref
from model_api.repository.statuses import write_status


@dataclass
class Instance:
    """One of them. `look` is a poll: it reads the refs, acts, and reports."""

    layout: Layout
    name: str
    model: str = "mini"
    refuses: set[str] = field(default_factory=set)  # digests
    slow: set[str] = field(default_factory=set)  # digests whose load never ends
    only: list[str] | None = None
    have: dict[Ref, Phase] = field(default_factory=dict)
    serving: Ref | None = None

    def look(self, report: bool = True) -> None:
        refs = read_refs(self.layout, self.model)
        if self.only is None or self.model in self.only:
            while True:
                step = plan(refs, self.have, self.serving)
                self.serving = step.serve
                for ref in step.unload:
                    del self.have[ref]
                for ref in step.load:
                    self.have[ref] = self._load(ref)
                if not step.load and not step.unload:
                    break
        if report:
            self.report()

    def _load(self, ref: Ref) -> Phase:
        if ref.digest in self.slow:
            return Phase.LOADING
        return Phase.REFUSED if ref.digest in self.refuses else Phase.READY

    def report(self) -> None:
        versions = [
            {
                "version": ref.version,
                "digest": ref.digest,
                "state": str(phase),
                "reason": "probe 0 is off" if phase == Phase.REFUSED else None,
            }
            for ref, phase in self.have.items()
        ]
        document: dict[str, Any] = {"name": self.model, "versions": versions}
        if self.serving is not None:
            document |= {"version": self.serving.version, "digest": self.serving.digest}
        status = {"models": [document] if versions else [], **({"only": self.only} if self.only is not None else {})}
        write_status(self.layout.statuses, self.name, status)


@contextmanager
def living(*instances: Instance) -> Iterator[None]:
    """They look again and again until the end of the block."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.02):
            for instance in instances:
                instance.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
