"""What only operators may do."""

import hmac

from flask import current_app, request

from model_api.errors import OperatorOnly
from model_api.settings import Settings


def require_operator() -> None:
    """Raises OperatorOnly unless the request carries the operator's key."""
    settings: Settings = current_app.extensions["model_api_settings"]
    if settings.operator_key is None:
        raise OperatorOnly("this server has no operator's key; MODEL_API_OPERATOR_KEY sets it")
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), settings.operator_key.encode()):
        raise OperatorOnly("send the operator's key as Authorization: Bearer KEY")
