"""Times as callers write them, and the hours, days and months of their time zone. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from model_api.errors import InvalidInput

HOUR, DAY, MONTH = "hour", "day", "month"
PERIODS = (HOUR, DAY, MONTH)
HOUR_S = 3600
MAX_PERIODS = 10_000
# What is looked at where a caller names no beginning.
DEFAULT_SPAN = {HOUR: timedelta(days=2), DAY: timedelta(days=31), MONTH: timedelta(days=366)}
_ZONE = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}")
_OFFSET_WITHOUT_PLUS = re.compile(r" (?=\d\d:\d\d$)")
_EARLIEST, _LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(2089, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Span:
    """From `since` to before `until`; aware."""

    since: datetime
    until: datetime

    @property
    def hours(self) -> tuple[int, int]:
        """Whole hours since 1970 that hold it: the first, and the one after the last."""
        return int(self.since.timestamp()) // HOUR_S, -(-int(self.until.timestamp()) // HOUR_S)

    @property
    def ms(self) -> tuple[int, int]:
        return int(self.since.timestamp() * 1000), int(self.until.timestamp() * 1000)

    def before(self) -> "Span":
        """The one of the same length that ends where this one begins."""
        return Span(max(self.since - (self.until - self.since), _EARLIEST), self.since)


def zone_of(name: str | None) -> tzinfo:
    """Raises InvalidInput."""
    if name is None or name.upper() == "UTC":
        return UTC
    try:
        if _ZONE.fullmatch(name):
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):
        pass
    raise InvalidInput("must be a time zone's name, as Europe/Berlin", "/zone")


def moment_of(text: str, zone: tzinfo, place: str) -> datetime:
    """RFC 3339, or a day, or a time without an offset, which is then in `zone`. Raises InvalidInput."""
    # In an address a plus sign is a blank, unless who wrote it knew that.
    text = _OFFSET_WITHOUT_PLUS.sub("+", text.strip())
    try:
        found = datetime.combine(date.fromisoformat(text), time()) if len(text) <= 10 else datetime.fromisoformat(text)
        found = found.replace(tzinfo=zone) if found.tzinfo is None else found
        return min(max(found.astimezone(UTC), _EARLIEST), _LATEST)
    except (ValueError, OverflowError):
        raise InvalidInput("must be a time as 2026-03-29T12:00:00+02:00, or a day", place) from None


def span_of(since: str | None, until: str | None, zone: tzinfo, default: timedelta, now: float) -> Span:
    """Raises InvalidInput, also where they are the wrong way round."""
    # A whole hour ends what is asked for without an end, so that it holds this very moment.
    end = (
        datetime.fromtimestamp(now // HOUR_S * HOUR_S + HOUR_S, UTC)
        if until is None
        else moment_of(until, zone, "/until")
    )
    begin = max(end - default, _EARLIEST) if since is None else moment_of(since, zone, "/since")
    if begin >= end:
        raise InvalidInput("since must be before until", "/since")
    return Span(begin, end)


def offsets(span: Span, zone: tzinfo) -> list[tuple[int, int]]:
    """(from which hour since 1970 on, minutes ahead of UTC), in order, for the hours of `span`."""
    first, end = span.hours
    found = [(first, _minutes(first, zone))]
    step = 24
    for at in range(first, end, step):
        last = min(at + step, end - 1)
        if _minutes(last, zone) != found[-1][1]:
            low, high = at, last  # the change is after `low`, and at `high` at the latest
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _minutes(middle, zone) == found[-1][1] else (low, middle)
            found.append((high, _minutes(high, zone)))
    return found


def is_exact(span: Span, zone: tzinfo) -> bool:
    """Whether the zone's days begin with hours of UTC. Where they don't, an hour counts where it begins."""
    return all(minutes % 60 == 0 for _, minutes in offsets(span, zone))


def starts(span: Span, by: str, zone: tzinfo) -> list[datetime]:
    """The beginnings of all hours, days or months of `zone` that `span` touches. Raises InvalidInput for too many."""
    found: list[datetime] = []
    for start in _hours(span, zone) if by == HOUR else _days(span, by, zone):
        found.append(start)
        if len(found) > MAX_PERIODS:
            raise InvalidInput(f"more than {MAX_PERIODS} {by}s: ask for fewer, or for longer ones", "/since")
    return found


def _hours(span: Span, zone: tzinfo) -> Iterator[datetime]:
    for hour in range(*span.hours):
        yield datetime.fromtimestamp(hour * HOUR_S, zone)


def _days(span: Span, by: str, zone: tzinfo) -> Iterator[datetime]:
    first, end = span.hours
    day = datetime.fromtimestamp(first * HOUR_S, zone).date()
    last = datetime.fromtimestamp((end - 1) * HOUR_S, zone).date()
    day = day.replace(day=1) if by == MONTH else day
    while day <= last:
        yield datetime.combine(day, time(), zone)
        day = (day.replace(day=1) + timedelta(days=32)).replace(day=1) if by == MONTH else day + timedelta(days=1)


def _minutes(hour: int, zone: tzinfo) -> int:
    offset = datetime.fromtimestamp(hour * HOUR_S, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds()) // 60
