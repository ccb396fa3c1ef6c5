"""Log lines on stdout: JSON objects with time, level, logger, message and the fields of the event; on a terminal the
same as a person reads it.

A line never holds a body, a query string or a header's value. `logging_config` makes gunicorn's own lines the same.
"""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

# Nobody reads these from a record; collecting them costs more than writing the line.
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False

ACCESS = logging.getLogger("model_api.requests")
_HEALTH = frozenset({"/healthz", "/readyz", "/metrics", "/mount_check"})
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


class JsonFormatter(logging.Formatter):
    """A record as one JSON object; `extra={"fields": {...}}` adds fields. Never raises on odd values."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields: Mapping[str, Any] | None = getattr(record, "fields", None)
        if fields:
            line.update(fields)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            return orjson.dumps(line, default=str, option=_OPTIONS)[:-1].decode()
        except orjson.JSONEncodeError:  # lone surrogates, say: escape what UTF-8 can't hold
            return orjson.dumps({str(k): ascii(v) for k, v in line.items()}).decode()


class TextFormatter(logging.Formatter):
    """A record as a line for a person: time of day, level unless it is INFO, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")  # noqa: DTZ006 - the reader's own clock
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        fields: Mapping[str, Any] = getattr(record, "fields", None) or {}
        shown = "".join(f"  {name}={value}" for name, value in fields.items() if value not in (None, ""))
        line = f"{moment} {level}{record.getMessage()}{shown}"
        # A text of a caller's or a model's must not make lines, or colours, of its own.
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class StdoutHandler(logging.StreamHandler[TextIO]):
    """Counts the lines that can't be written (the disk is full, say); a traceback about it couldn't be either."""

    lost_lines = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        StdoutHandler.lost_lines += 1


def wants_text(log_format: str) -> bool:
    """Whether lines are for a person: asked for, or by themselves (auto) where stdout is a terminal."""
    return log_format == "text" or (log_format == "auto" and sys.stdout.isatty())


def logging_config(level: str = "INFO", log_format: str = "json") -> dict[str, Any]:
    """For gunicorn's `logconfig_dict`: everything goes to stdout, in one form."""
    formatter = TextFormatter if wants_text(log_format) else JsonFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter}},
        "handlers": {"stdout": {"()": StdoutHandler, "stream": "ext://sys.stdout", "formatter": "line"}},
        "root": {"level": level, "handlers": ["stdout"]},
        "loggers": {
            "gunicorn.error": {"level": level, "propagate": True, "handlers": []},
            "gunicorn.access": {"level": "WARNING", "propagate": True, "handlers": []},
        },
    }


def log_request(fields: Mapping[str, Any]) -> None:
    """One line for one answered request. A 5xx is a warning: the cause has its own line. Asking for health, as
    balancers do every few seconds, is told at level DEBUG."""
    level = logging.WARNING if fields["status"] >= 500 else logging.INFO
    if fields.get("path") in _HEALTH:
        level = logging.DEBUG
    if ACCESS.isEnabledFor(level):
        # As ACCESS.log does, without the search for the calling line.
        ACCESS.handle(ACCESS.makeRecord(ACCESS.name, level, "", 0, "request", (), None, extra={"fields": fields}))
