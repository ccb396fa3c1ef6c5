"""What Prometheus sees, in a registry of its own: one web process answers, so nothing is merged over files.

Labels are bounded: routes are the app's own rules ("unmatched" for the rest), methods are the known ones, models and
versions come from answers and from the manager, never from what a caller wrote.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LATENCY_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_STEP_MS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 30000)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class LoadedModels(Collector):
    """The gauge of what is loaded. `show` replaces all rows at once, so that a scrape sees no mixture."""

    def __init__(self) -> None:
        self._rows: tuple[tuple[str, str, str], ...] = ()

    def show(self, rows: Iterable[Sequence[str]]) -> None:
        """Rows of (model, version, state), the state in the manager's words (loading, serving, draining, ...)."""
        self._rows = tuple(sorted({(model, version, state) for model, version, state in rows}))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "model_api_loaded_models",
            "Versions of models on this instance, by state.",
            labels=["model", "version", "state"],
        )
        for row in self._rows:
            family.add_metric(row, 1)
        yield family


class _OfVersion:
    """The metrics of one version's answers."""

    def __init__(self, metrics: "Metrics", model: str, version: str) -> None:
        self.latency_s = metrics.latency_s.labels(model, version)
        self.queue_ms = metrics.queue_ms.labels(model, version)
        self.forward_ms = metrics.forward_ms.labels(model, version)
        self.batch_size = metrics.batch_size.labels(model, version)
        self.tokens = metrics.tokens.labels(model, version)


class _OfHistory:
    """The metrics of what is kept of predictions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.predictions = Counter(
            "model_api_history_predictions",
            "Predictions that the history kept, or lost: full (too many waited), refused (by the database), stopped.",
            ["event"],
            registry=registry,
        )
        self.shift = Gauge(
            "model_api_history_shift",
            "Population stability index of the last seven days against the seven before, of labels or scores.",
            ["model", "of"],
            registry=registry,
        )


class Metrics:
    """All metrics of one process; thread-safe. The manager and the batcher set theirs, the edge observes requests."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        served = ["model", "version"]
        self.requests = Counter(
            "model_api_requests", "Answered requests.", ["route", "method", "status"], registry=registry
        )
        self.latency_s = Histogram(
            "model_api_request_seconds",
            "From the request's headers to its answer, of answers by a model.",
            served,
            buckets=_LATENCY_S,
            registry=registry,
        )
        self.queue_ms = Histogram(
            "model_api_queue_ms", "Waiting for a lane.", served, buckets=_STEP_MS, registry=registry
        )
        self.forward_ms = Histogram("model_api_forward_ms", "In a lane.", served, buckets=_STEP_MS, registry=registry)
        self.batch_size = Histogram(
            "model_api_batch_size",
            "Rows of the micro-batch that a request ran in.",
            served,
            buckets=_BATCH,
            registry=registry,
        )
        self.lane_batches = Counter("model_api_lane_batches", "Micro-batches run by the lanes.", registry=registry)
        self.lane_rows = Counter("model_api_lane_rows", "Rows in those micro-batches.", registry=registry)
        self.lane_tokens = Counter("model_api_lane_tokens", "Tokens in those micro-batches.", registry=registry)
        self.tokens = Counter("model_api_tokens", "Tokens of answered requests.", served, registry=registry)
        self.cache_events = Counter(
            "model_api_cache_events",
            "What the result cache did: hit, miss, joined, bypass, eviction, expiry, garbage, too_large, store_error,"
            " store_skipped.",
            ["event"],
            registry=registry,
        )
        self._history = _OfHistory(registry)
        self.refusals = Counter(
            "model_api_refusals",
            "What the server refused before the application saw it: requests, connections, unsent answers (for want of"
            " room) or a problem's type.",
            ["what"],
            registry=registry,
        )
        self._add_gauges(registry)
        self.loaded = LoadedModels()
        registry.register(self.loaded)
        self.mount_age_s.set(float("nan"))
        # Children by label, kept because finding one costs more than counting with it.
        self._by_request: dict[tuple[str, str, int], Counter] = {}
        self._by_version: dict[tuple[str, str], _OfVersion] = {}

    def _add_gauges(self, registry: CollectorRegistry) -> None:
        """What is so at the moment of a scrape."""
        self.queue_entries = Gauge("model_api_queue_entries", "Requests waiting or running now.", registry=registry)
        self.mount_up = Gauge(
            "model_api_mount_up", "1 if the last look at the shared file system succeeded.", registry=registry
        )
        self.mount_age_s = Gauge(
            "model_api_mount_age_seconds", "Seconds since that look; NaN before the first.", registry=registry
        )
        self.keys_up = Gauge("model_api_keys_up", "1 if keys.json was good at the last look.", registry=registry)
        self.keys_age_s = Gauge(
            "model_api_keys_age_seconds", "Seconds since a good one was read; NaN before.", registry=registry
        )
        self.ready = Gauge("model_api_ready", "1 if /readyz says ready.", registry=registry)
        self.lost_lines = Gauge("model_api_log_lines_lost", "Of the log, since the start.", registry=registry)

    def observe_request(self, route: str | None, method: str, status: int) -> None:
        """`route` is the matched rule, None where none matched."""
        known = method if method in METHODS else "other"
        key = (route or "unmatched", known, status)
        child = self._by_request.get(key)
        if child is None:
            child = self._by_request[key] = self.requests.labels(key[0], known, str(status))
        child.inc()

    def count_cache(self, event: str) -> None:
        """One event of the result cache, in cache.py's and cache_stores.py's words."""
        self.cache_events.labels(event).inc()

    def count_history(self, event: str, n: int) -> None:
        """So many predictions of the history were kept or lost, in recording.py's words."""
        self._history.predictions.labels(event).inc(n)

    def show_shifts(self, shifts: Mapping[tuple[str, str], float]) -> None:
        """(model, "labels" or "scores") -> index; what isn't there any more is shown no longer."""
        self._history.shift.clear()
        for names, index in shifts.items():
            self._history.shift.labels(*names).set(index)

    def count_refusal(self, what: str) -> None:
        """The server refused something by itself; `what` is one of a few words."""
        self.refusals.labels(what).inc()

    def observe_batch(self, rows: int, tokens: int) -> None:
        """One micro-batch that a lane ran; called on a runner thread."""
        self.lane_rows.inc(rows)
        self.lane_tokens.inc(tokens)
        self.lane_batches.inc()

    def show_loaded(self, rows: Iterable[Sequence[str]]) -> None:
        """Rows of (model, version, state); on the manager's thread."""
        self.loaded.show(rows)

    def watch_queue(self, entries: Callable[[], float]) -> None:
        """`entries` tells, at every scrape, how many requests wait or run."""
        self.queue_entries.set_function(entries)

    def observe_answer(
        self,
        model: str,
        version: str,
        *,
        seconds: float,
        queue_ms: float,
        forward_ms: float,
        batch_size: int,
        n_tokens: int,
    ) -> None:
        """One answer by a model; a cached one has no batch (batch_size 0) and counts in the latency only."""
        child = self._by_version.get((model, version))
        if child is None:
            child = self._by_version[model, version] = _OfVersion(self, model, version)
        child.latency_s.observe(seconds)
        if batch_size:
            child.queue_ms.observe(queue_ms)
            child.forward_ms.observe(forward_ms)
            child.batch_size.observe(batch_size)
            child.tokens.inc(n_tokens)

    def render(self) -> bytes:
        """The text format of /metrics."""
        return generate_latest(self.registry)
