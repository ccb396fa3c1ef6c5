"""The stand-in app under a real server: a /sim whose target is "wait" is answered once its caller has left."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from flask_openapi3 import OpenAPI

from model_api.app import build_app
from model_api.errors import CallerLeft, DeadlineExceeded
from model_api.serving.calls import Answer, CallContext
from model_api.settings import Settings
from tests.rigs.stand_in_service import StandInService


class WaitingService(StandInService):
    def similarity(
        self, target: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Answer:
        if target == "wait":
            while time.monotonic() < context.deadline:
                if context.has_left():
                    raise CallerLeft("the caller has left")
                time.sleep(0.01)
            raise DeadlineExceeded("the caller stayed")
        return super().similarity(target, texts, model, parameters, context)


def create() -> OpenAPI:
    """For gunicorn's `tests.rigs.waiting_app:create()`."""
    return build_app(WaitingService(), Settings(max_body_bytes=20_000, request_timeout_s=4))
