"""What routes of the history make of their input, this project's own and an earlier system's."""

from typing import TYPE_CHECKING, Any

from model_api.errors import Forbidden, InvalidInput
from model_api.history.entries import MAX_CELL_BYTES, clean, dumped
from model_api.web.requests import current_request

if TYPE_CHECKING:
    from model_api.history.queries import Filter


def filter_of(query: Any) -> "Filter":
    """Raises Forbidden for a key of other models."""
    from model_api.history.queries import Filter

    allow(query.model)
    return Filter(query.model, query.source)


def allow(model: str | None) -> None:
    """A key for some models sees the history of those. Raises Forbidden."""
    models = current_request().caller.models
    if models is not None and model not in models:
        raise Forbidden(f"this key is for {', '.join(sorted(models))}: name one of them as the model")


def checked_name(name: str, place: str) -> str:
    """Raises InvalidInput for what databases, or people, can't tell apart."""
    if clean(name, 128) != name:
        raise InvalidInput("must be printable, without blanks around it", place)
    return name


def check_cell(value: Any, place: str) -> None:
    """Raises InvalidInput for what is too long to be kept."""
    if value is not None and (size := len(dumped(value))) > MAX_CELL_BYTES:
        raise InvalidInput(f"{size} bytes, at most {MAX_CELL_BYTES} are kept", place)
