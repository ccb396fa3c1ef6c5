"""Who is next, and with whom: the queue's decisions, without threads, clocks or I/O.

Fair at three levels. Models take turns by the processor time given to each; within a model, callers take turns by
the tokens served to each; within a caller, small requests go before large ones: an entry's tag is the virtual time
(tokens dispatched so far, over all) at its arrival plus `SIZE_WEIGHT` times its own tokens. Virtual time goes on as
others are served, so every tag is reached some day: that is the ageing. Equals go one after the other in order of
arrival: taking turns among them would end them all late.
Turns follow start-time fair queuing (Goyal, Vin and Cheng, 1996): who was away can't save up service.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from model_api.errors import QueueFull

SIZE_WEIGHT = 8  # measured: a large request yields to small ones, and still isn't starved by them
SPLIT_FLOOR = 4  # a batch isn't made smaller than 1/4 of the budget just to occupy another lane

MAX_REMEMBERED = 1000  # callers and models whose service is remembered while nothing of theirs waits

K = TypeVar("K", bound=Hashable)


@dataclass(eq=False, kw_only=True)
class QueueEntry:
    """One request in the queue: rows with their costs in tokens, and what decides its turn.

    `group` says which lanes can run it; rows of two entries share a batch only where `group` and `parameters` are
    equal. `weight` is the processor time of one token relative to other models. `max_batch_tokens` replaces the
    queue's limit, and what waits is then not spread over lanes.
    """

    group: Hashable
    parameters: Hashable
    costs: Sequence[int]
    caller: str
    weight: float = 1.0
    max_batch_tokens: int | None = None
    alone: bool = False  # never with others again: one of its batches failed
    arrival_tokens: int = field(default=0, init=False)
    waiting: list[int] = field(init=False)  # rows not dispatched; the next one is at the end

    def __post_init__(self) -> None:
        # Longest first, so that the short rows even out the lanes at the end; equal lengths become neighbours.
        self.waiting = sorted(range(len(self.costs)), key=lambda row: self.costs[row])
        self._size_tokens = sum(self.costs)

    @property
    def tag(self) -> int:
        return self.arrival_tokens + SIZE_WEIGHT * self._size_tokens

    def waiting_tokens(self) -> int:
        if len(self.waiting) == len(self.costs):
            return self._size_tokens
        return sum(self.costs[row] for row in self.waiting)


@dataclass(frozen=True)
class Batch:
    """What one lane runs at once: for every entry the rows that are in it."""

    parts: Sequence[tuple[QueueEntry, Sequence[int]]]

    @property
    def tokens(self) -> int:
        return sum(entry.costs[row] for entry, rows in self.parts for row in rows)


class _Turns(Generic[K]):
    """Service given to each of those who wait; whoever had least is next."""

    def __init__(self) -> None:
        self._served: dict[K, float] = {}
        self._waiting: Counter[K] = Counter()
        self._floor = 0.0  # what the one being served had when its turn came

    def join(self, key: K) -> None:
        """One more entry of `key` waits. Whoever was away has no claim on service from before."""
        if not self._waiting[key]:
            self._served[key] = max(self._served.get(key, 0.0), self._floor)
        self._waiting[key] += 1

    def leave(self, key: K) -> None:
        """One entry of `key` waits no more. Who is ahead stays known, or leaving and coming back would pay."""
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
        if len(self._served) > MAX_REMEMBERED:
            self._served = {k: v for k, v in self._served.items() if k in self._waiting or v > self._floor}

    def next(self, keys: Iterable[K]) -> K:
        return min(keys, key=self._served.__getitem__)

    def charge(self, key: K, amount: float) -> None:
        self._floor = max(self._floor, self._served[key])
        self._served[key] += amount

    def refund(self, key: K, amount: float) -> None:
        """What was charged and not served, of one who waits."""
        self._served[key] = max(self._served[key] - amount, self._floor)


class Scheduler:
    """The queue. Not thread-safe: the batcher calls it under its lock."""

    def __init__(self, *, max_entries: int, max_batch_tokens: int, lanes: int) -> None:
        self._max_entries = max_entries
        self._max_batch_tokens = max_batch_tokens
        self._lanes = lanes
        self._waiting: list[QueueEntry] = []
        self._accepted: set[QueueEntry] = set()
        self._tokens = 0  # virtual time
        self._groups: _Turns[Hashable] = _Turns()
        self._callers: _Turns[tuple[Hashable, str]] = _Turns()

    def __len__(self) -> int:
        """Accepted entries without an outcome, waiting or running."""
        return len(self._accepted)

    def add(self, entry: QueueEntry) -> None:
        """Accept `entry`. Raises QueueFull, and then nothing changed."""
        if len(self._accepted) >= self._max_entries:
            raise QueueFull(f"{self._max_entries} requests are waiting or running already")
        self._accepted.add(entry)
        entry.arrival_tokens = self._tokens
        if entry.waiting:
            self._enqueue(entry)

    def put_back(self, entry: QueueEntry, rows: Sequence[int]) -> None:
        """Rows of a batch that failed wait again, from now on without company."""
        entry.alone = True
        entry.waiting = sorted([*entry.waiting, *rows], key=lambda row: entry.costs[row])
        if entry not in self._waiting:
            self._enqueue(entry)

    def put_back_unfinished(self, entry: QueueEntry, row: int, unused_tokens: int) -> None:
        """A row that was interrupted waits for its next turn; what of its cost wasn't used was not served."""
        self._tokens -= unused_tokens
        entry.waiting = sorted([*entry.waiting, row], key=lambda row: entry.costs[row])
        if entry not in self._waiting:
            self._enqueue(entry)
        self._groups.refund(entry.group, unused_tokens * entry.weight)
        self._callers.refund((entry.group, entry.caller), unused_tokens)

    def is_in_the_way(self, entry: QueueEntry, could_run: Callable[[Hashable], bool]) -> bool:
        """Whether somebody waits whose turn it is rather than that of `entry`, which runs; `could_run` tells of a group
        whether the runner of `entry` could run it."""
        return any(
            other is not entry
            and could_run(other.group)
            and (other.group != entry.group or other.caller != entry.caller or other.tag < entry.tag)
            for other in self._waiting
        )

    def remove(self, entry: QueueEntry) -> None:
        """`entry` has its outcome; whatever of it still waits is dropped."""
        self._accepted.discard(entry)
        if entry in self._waiting:
            self._dequeue(entry)
        entry.waiting = []

    def waiting(self) -> list[QueueEntry]:
        return list(self._waiting)

    def next_batch(self, idle_lanes: Callable[[Hashable], int]) -> Batch | None:
        """The next micro-batch among the groups that have idle lanes, or None. Its rows no longer wait."""
        runnable = [entry for entry in self._waiting if idle_lanes(entry.group)]
        if not runnable:
            return None
        group = self._groups.next({entry.group for entry in runnable})
        of_group = [entry for entry in runnable if entry.group == group]
        caller = self._callers.next({(group, entry.caller) for entry in of_group})
        first = min((entry for entry in of_group if entry.caller == caller[1]), key=lambda entry: entry.tag)
        budget = self._budget(of_group, idle_lanes(group))
        parts = [(first, self._take(first, budget, at_least_one=True))]
        left = budget - sum(first.costs[row] for row in parts[0][1])
        if not first.alone:
            for entry in sorted(of_group, key=lambda entry: entry.tag):
                if entry is first or entry.alone or entry.parameters != first.parameters or not entry.waiting:
                    continue
                rows = self._take(entry, left, at_least_one=False)
                if rows:
                    parts.append((entry, rows))
                    left -= sum(entry.costs[row] for row in rows)
        for entry, rows in parts:
            self._account(entry, sum(entry.costs[row] for row in rows))
        return Batch(parts)

    def _budget(self, entries: Sequence[QueueEntry], idle_lanes: int) -> int:
        """Tokens of the next batch, between a floor and the limit.

        Large requests are spread over all lanes, so that each ends soon. Small ones end no sooner for being spread,
        except over lanes that have nothing to do: the larger a batch, the less each of its requests costs.
        """
        if entries[0].max_batch_tokens is not None:
            return entries[0].max_batch_tokens
        limit = self._max_batch_tokens
        floor = limit // SPLIT_FLOOR
        sizes = [entry.waiting_tokens() for entry in entries]
        small = sum(size for size in sizes if size <= floor)
        large = sum(sizes) - small
        return min(limit, max(floor, math.ceil(small / idle_lanes + large / self._lanes)))

    def _take(self, entry: QueueEntry, budget: int, *, at_least_one: bool) -> list[int]:
        rows: list[int] = []
        while entry.waiting and (entry.costs[entry.waiting[-1]] <= budget or (at_least_one and not rows)):
            row = entry.waiting.pop()
            rows.append(row)
            budget -= entry.costs[row]
        return rows

    def _account(self, entry: QueueEntry, tokens: int) -> None:
        self._tokens += tokens
        self._groups.charge(entry.group, tokens * entry.weight)
        self._callers.charge((entry.group, entry.caller), tokens)
        if not entry.waiting:
            self._dequeue(entry)

    def _enqueue(self, entry: QueueEntry) -> None:
        self._waiting.append(entry)
        self._groups.join(entry.group)
        self._callers.join((entry.group, entry.caller))

    def _dequeue(self, entry: QueueEntry) -> None:
        self._waiting.remove(entry)
        self._groups.leave(entry.group)
        self._callers.leave((entry.group, entry.caller))
