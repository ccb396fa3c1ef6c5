"""A model in a process of its own, single-threaded from its start as a leader is, so that it may fork."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_api.processes import messages
from model_api.processes.spec import LeaderSpec
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array


class Leader:
    """`forward` of a loaded model, over a socket. Use it as a context manager."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str = "auto") -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(120)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.rigs.leader", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
            )
        spec = LeaderSpec(
            manifest=manifest,
            source=str(folder),
            immutable=True,
            protected=(),
            local_store="",
            store_budget_bytes=None,
            precision=precision,
            lanes=1,
            recheck_s=3600.0,
            trusted_signers=None,
        )
        messages.send(self._ours, spec.to_message())
        header, _ = messages.receive(self._ours)
        self.precision: str = header["precision"]
        self.precision_reason: str | None = header["precision_reason"]

    @property
    def connection(self) -> socket.socket:
        """The web process's end of the lane."""
        return self._ours

    def __enter__(self) -> "Leader":
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self.process.wait(120)

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> list[Array]:
        messages.send(self._ours, {"parameters": parameters}, arrays)
        header, outputs = messages.receive(self._ours)
        assert "error" not in header, header
        return outputs


def main() -> None:
    import torch

    from model_api.processes.model_side.bring_up import load
    from model_api.processes.model_side.lane_loop import run_lane

    torch.set_num_threads(1)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        spec = LeaderSpec.from_message(messages.receive(connection)[0])
        model = load(spec, Path(spec.source), lambda stage, **details: None).model
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pass  # as it should be: no child is left
        else:
            raise AssertionError("a child outlives the checks")
        messages.send(connection, {"precision": model.precision, "precision_reason": model.precision_reason})
        run_lane(connection, model)


if __name__ == "__main__":
    main()
