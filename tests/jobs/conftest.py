"""The real edge and real jobs in a folder of their own, over a small deterministic service."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_openapi3 import OpenAPI

from model_api.app import build_app
from model_api.errors import CallerLeft, DeadlineExceeded, ForwardFailed
from model_api.jobs.start import Jobs
from model_api.serving.calls import Answer, CallContext
from model_api.settings import Settings
from tests.rigs.polling import wait_until
from tests.rigs.stand_in_service import StandInService


class GatedService(StandInService):
    """While the gate is closed, predictions wait as a long forward does, until it opens or nobody wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Semaphore(0)  # released by each prediction that comes to the closed gate
        self.computed: list[Sequence[Any]] = []
        self.abandoned = 0
        self._calls_left: int | None = None
        self.fail_after_check = False  # of predictions, not of their examination

    def close_gate_after(self, calls: int) -> None:
        self._calls_left = calls

    def predict(self, model: str, inputs: Sequence[Any], parameters: Mapping[str, Any], context: CallContext) -> Answer:
        if self._calls_left is not None:
            self._calls_left -= 1
            if self._calls_left < 0:
                self.gate.clear()
        if not self.gate.is_set():
            self.waiting.release()
        while not self.gate.wait(0.005):
            if context.has_left():
                self.abandoned += 1
                raise CallerLeft("nobody waits")
            if context.deadline <= time.monotonic():
                raise DeadlineExceeded("no answer within the request's time limit")
        if self.fail_after_check:
            raise ForwardFailed("the model failed on this input")
        answer = super().predict(model, inputs, parameters, context)
        self.computed.append(inputs)
        return answer


@dataclass
class Rig:
    app: OpenAPI
    service: GatedService
    client: FlaskClient

    @property
    def jobs(self) -> Jobs:
        found: Jobs = self.app.extensions["model_api_jobs"]
        return found

    def ask(self, inputs: Any = ("text",), **more: Any) -> dict[str, Any]:
        """A predict job, as it was answered."""
        answer = self.client.post("/jobs", json={"kind": "predict", "model": "minilm", "inputs": list(inputs), **more})
        assert answer.status_code in (200, 202), answer.data
        return {**answer.get_json(), "http_status": answer.status_code}

    def wait(self, job_id: str, status: str = "succeeded") -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.client.get(f"/jobs/{job_id}?wait=5").get_json()
            return found if found["status"] == status else None

        found = wait_until(look, within_s=20, every_s=0.02, what=f"job {status}")
        assert found is not None
        return found


def open_rig(folder: Path, **settings: Any) -> Rig:
    service = GatedService()
    app = build_app(service, Settings(jobs_dir=folder, **settings))
    app.extensions["model_api_jobs"].start()
    return Rig(app, service, app.test_client())


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = open_rig(tmp_path / "jobs")
    yield rig
    rig.service.gate.set()
    rig.jobs.stop()
