"""Publishes drafts, loads and answers as an instance does, in a process without other threads, for one kind after
another: `python -m tests.catalogue.served`, JSON lines in and out."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.catalogue.kind import Kind
from tests.rigs.project import ROOT


class Server:
    """Asks the process; one for a whole run."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.catalogue.served"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
            text=True,
        )

    def answer(self, kind: Kind, folder: Path) -> dict[str, Any]:
        """{"predictions"} or {"refused": what its author is told}."""
        order: dict[str, Any] = {"folder": str(folder), "task": kind.task, "options": dict(kind.options)}
        order |= {"inputs": list(kind.inputs), "parameters": {"truncate": True, **kind.parameters}}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        with self._process:  # closes both pipes
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(60)


def answer(order: Mapping[str, Any]) -> dict[str, Any]:
    from model_api.errors import ModelApiError, Refused
    from model_api.processes.model_side.bring_up import load_copy
    from model_api.processes.model_side.checks import PROBE_LIMITS, Runs
    from model_api.processes.model_side.trial import Trial
    from model_api.processes.spec import LeaderSpec
    from model_api.publishing.draft import draft
    from model_api.tasks import find_task

    try:
        made = draft(Path(order["folder"]), "kind", lambda done, total: None, order["task"], order["options"])
    except Refused as error:
        return {"refused": str(error), "by": "publish"}
    copy = Path(order["folder"]).with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    for path, file in made.files.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy / path)
    spec = LeaderSpec(made.manifest, str(copy), True, (), str(copy.parent), None, "float32", 1, 0.0, None)
    task, opened = find_task(made.manifest.task), []

    def report(stage: str, **details: Any) -> None:
        """The web process opens its side as soon as it hears of this stage, not once all is loaded."""
        if stage == "loading" and not details["encoded_elsewhere"]:
            opened.append(task.open_web(copy, made.manifest, PROBE_LIMITS))

    try:
        loaded = load_copy(spec, copy, report)
    except Refused as error:
        return {"refused": str(error), "by": "load"}
    except ModelApiError as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    web = opened[0] if opened else task.open_web(copy, made.manifest, replace(PROBE_LIMITS, encoder=loaded.encoder))
    parameters = dict(order["parameters"])
    if made.manifest.task == "text-classification":
        parameters["all_labels"] = True
    predictions = []
    with contextlib.ExitStack() as children:
        runs: Runs = loaded.model if loaded.model.fork_safe else children.enter_context(Trial(loaded.model))
        for text in order["inputs"]:
            prepared = web.prepare([text], parameters)
            predictions += web.finish(prepared, list(runs.forward(prepared.arrays, prepared.parameters)))
    return {"task": made.manifest.task, "predictions": [getattr(p, "tolist", lambda p=p: p)() for p in predictions]}


def main() -> None:
    from model_api.processes.model_side.bring_up import import_runtime

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import_runtime()
    for line in sys.stdin:
        try:
            answered = answer(json.loads(line))
        except Exception as error:
            answered = {"failed": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answered) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
