"""The scorer's own side: a batch of pairs in, their scores out, on one thread."""

import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_api.processes import messages
from model_api.processes.model_side.forking import die_with_parent
from model_api.processes.model_side.lane_loop import run_lane
from model_api.serving.scorer import scored_row
from model_api.serving.text_scores import score_pair
from model_api.tasks.contract import Array, ModelSide

OOM_SCORE = "500"  # where memory runs out, this process goes before the one that serves


class TextScores(ModelSide):
    """A "model" whose rows are pairs of texts."""

    precision = "float64"

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        return [scored_row(row, score_pair) for row in arrays]


def main(connection_fd: int, parent_pid: int) -> None:
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)  # the web process drains first, and then ends this one
    die_with_parent(parent_pid)
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    score_pair("", "")  # imports the libraries
    connection = socket.socket(fileno=connection_fd)
    messages.send(connection, {"event": "ready"})
    run_lane(connection, TextScores())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
