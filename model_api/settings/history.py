"""The settings of the history: what is kept of predictions, where, and for how long."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from model_api.settings.jobs import IN_ANY_CASE

DATABASE_SCHEMES = ("sqlite:///", "postgresql://", "mysql://", "mariadb://")
REDACTABLE = ("email", "phone", "card", "iban", "ip", "url")


def _database_url(value: str) -> str:
    if not value.startswith(DATABASE_SCHEMES):
        raise ValueError(f"must be a URL that begins with {', '.join(DATABASE_SCHEMES)}")
    if value.startswith("sqlite:///") and not value.startswith("sqlite:////"):
        raise ValueError("must name a file by its absolute path: sqlite:////srv/history.sqlite")
    return value


def _redacted(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    kinds = tuple(part.strip().lower() for part in value.split(",") if part.strip())
    for kind in kinds:
        if kind not in REDACTABLE:
            raise ValueError(f"may hold {', '.join(REDACTABLE)}")
    return kinds


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
Redacted = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_redacted)]


class HistorySettings(BaseSettings):
    """Part of Settings."""

    log_predictions: Annotated[Literal["off", "hash", "full"], IN_ANY_CASE] = Field(
        "off",
        description="What is kept of every prediction. `full`: inputs and predictions; `hash`: labels, scores,"
        " lengths and a hash of the input, no text; `off`: nothing but what `POST /log` sends.",
    )
    log_sample_rate: float = Field(
        1.0, ge=0, le=1, description="The share of requests whose predictions are kept, drawn by chance."
    )
    log_redact: Redacted = Field(
        (),
        description=f"Comma-separated data that is replaced before it is kept: {', '.join(REDACTABLE)}.",
        json_schema_extra={"shown": "unset"},
    )
    database_url: DatabaseUrl | None = Field(
        None,
        repr=False,  # it may hold a password
        description="Where the history is kept: `postgresql://`, `mysql://`, `mariadb://` (requirements-database.txt)"
        " or `sqlite:////file`. Unset: `history.sqlite` among the jobs, of this instance alone.",
    )
    history_days: float = Field(
        90.0,
        gt=0,
        le=36500,
        description="Days for which single predictions are kept. Hourly sums, which hold no text, stay.",
    )
