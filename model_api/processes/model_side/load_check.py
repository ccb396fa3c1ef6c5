"""The author's check, which publishing/load_check starts: bring a folder up once as an instance would, and tell.

Standard input is {"manifest": its text, "folder"} in JSON; standard output carries JSON lines: {"stage"} as they begin,
and at the end {"precision", "accuracy"}, {"refused": [path, reason]} or {"failed": reason}. Model side only.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from model_api.errors import ModelApiError, ProbeFailed, Refused
from model_api.processes.spec import LeaderSpec
from model_api.repository.manifest import Manifest


def main() -> int:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints must not get between the answers
    _answer(answers, **_tried(json.load(sys.stdin), answers))
    return 0


def _tried(message: dict[str, Any], answers: IO[str]) -> dict[str, Any]:
    from model_api.processes.model_side.bring_up import import_runtime, load_copy

    def report(stage: str, **details: Any) -> None:
        _answer(answers, stage=stage, **details)

    try:
        import_runtime()
        folder = Path(message["folder"])
        spec = LeaderSpec(
            manifest=Manifest.from_json(message["manifest"]),
            source=str(folder),
            immutable=True,
            protected=(),
            local_store=str(folder.parent),
            store_budget_bytes=None,
            precision="auto",
            lanes=1,
            recheck_s=0.0,
            trusted_signers=None,
        )
        precision = load_copy(spec, folder, report).model.precision
        return {"precision": precision, "accuracy": _int8_accuracy(spec.manifest, folder, report)}
    except Refused as error:
        return {"refused": [error.path, error.reason]}
    except ProbeFailed as error:
        return {"refused": ["", str(error)]}
    except ModelApiError as error:
        return {"failed": str(error)}
    except Exception as error:  # as the leader reports it: whatever a library raises, an author reads one line
        return {"failed": f"{type(error).__name__}: {error}"}


def _int8_accuracy(manifest: Manifest, folder: Path, report: Callable[..., None]) -> dict[str, Any] | None:
    """What int8 costs this model, on built-in texts and on the author's probes; None where it can't be had. Raises
    OSError, and what libraries raise."""
    from model_api.processes.model_side.accuracy import measure, sample_texts

    probed = [text for probe in manifest.probes for text in probe.inputs if isinstance(text, str) and text.strip()]
    report("comparing int8 with float32")
    try:
        return measure(folder, manifest, list(dict.fromkeys([*sample_texts(), *probed])), "int8").to_document()
    except ModelApiError:  # no kernels here, another kind of task, a sample text that it doesn't take
        return None


def _answer(answers: IO[str], **answer: Any) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
