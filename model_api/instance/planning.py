"""What to load, serve and unload next, decided purely: what is published and what is loaded go in, a plan comes out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from model_api.repository.refs import Canary, Ref, Refs

ATTEMPTS_BEFORE_VERDICT = 3


class Phase(StrEnum):
    """Where a version is on this instance."""

    LOADING = "loading"  # from the first copied byte to the last probe
    READY = "ready"  # its lanes answer
    WAITING = "waiting"  # for a moment: for memory to come free, or for its crashed processes to start again
    FAILED = "failed"  # for now: it is tried again after a pause
    REFUSED = "refused"  # for good: the content is wrong, and content never changes


@dataclass(frozen=True)
class Plan:
    """The next state to reach. `serve` answers for the model's name; None means that nothing can."""

    load: tuple[Ref, ...]
    serve: Ref | None
    canary: Canary | None
    unload: tuple[Ref, ...]


def plan(wanted: Refs, have: Mapping[Ref, Phase], serving: Ref | None) -> Plan:
    """The next step for one model.

    A new stable version is loaded beside the old one, which serves until the new one is ready. If it is refused for
    good, the first stand-in of the refs that can be had (the last good version, else previous) takes its place on every
    instance, whatever served there before: two instances that see the same refs end with the same version. If it only
    fails for now, what serves goes on, and stand-ins are loaded where nothing does. A version nobody names any more is
    unloaded, but never before its successor serves.
    """
    stable, canary, stand_ins = wanted.stable, wanted.canary, wanted.stand_ins()
    if stable is None and canary is None:
        return Plan((), None, None, tuple(have))

    def is_ready(ref: Ref | None) -> bool:
        return ref is not None and have.get(ref) == Phase.READY

    refused = stable is None or have.get(stable) == Phase.REFUSED
    order = (stable, *stand_ins, serving) if refused else (stable, serving, *stand_ins)
    serve = next((ref for ref in order if is_ready(ref)), None)
    canary_ref = Ref(canary.version, canary.digest) if canary else None
    named = [ref for ref in (stable, canary_ref) if ref is not None]
    stable_failed = stable is not None and have.get(stable) in (Phase.FAILED, Phase.REFUSED)
    for ref in stand_ins if stable_failed else ():
        if refused or serve in (None, ref):
            named.append(ref)
        if have.get(ref) not in (Phase.FAILED, Phase.REFUSED):
            break
    keep = {*named, serve}
    return Plan(
        load=tuple(dict.fromkeys(ref for ref in named if ref not in have)),
        serve=serve,
        canary=canary if is_ready(canary_ref) else None,
        unload=tuple(ref for ref in have if ref not in keep),
    )


def has_verdict(wanted: Refs, have: Mapping[Ref, Phase], serving: Ref | None, attempts: Mapping[Ref, int]) -> bool:
    """Whether a start may stop waiting for this model: it serves, or neither stable nor a stand-in can be had.

    A version that failed `ATTEMPTS_BEFORE_VERDICT` times goes on being tried, but holds up readiness no longer.
    """
    if serving is not None or wanted.stable is None:
        return True

    def hopeless(ref: Ref | None) -> bool:
        if ref is None or have.get(ref) == Phase.REFUSED:
            return True
        return have.get(ref) == Phase.FAILED and attempts.get(ref, 0) >= ATTEMPTS_BEFORE_VERDICT

    return all(hopeless(ref) for ref in (wanted.stable, *wanted.stand_ins()))
