"""What to load, serve and unload next, as sentences."""

from collections.abc import Mapping, Sequence

import hypothesis.strategies as st
from hypothesis import given

from model_api.instance.planning import ATTEMPTS_BEFORE_VERDICT, Phase, Plan, has_verdict, plan
from model_api.repository.refs import Canary, Ref, Refs

ONE, TWO, THREE = (Ref(str(n), str(n) * 64) for n in (1, 2, 3))


def refs(stable: Ref | None, previous: Ref | None = None, canary: Ref | None = None, percent: float = 5) -> Refs:
    return Refs(1, stable, previous, Canary(canary.version, canary.digest, percent) if canary else None)


def test_a_start_loads_the_stable_version_and_serves_nothing_yet() -> None:
    assert plan(refs(ONE), {}, None) == Plan((ONE,), None, None, ())


def test_a_ready_version_serves() -> None:
    assert plan(refs(ONE), {ONE: Phase.READY}, None).serve == ONE


def test_a_new_version_loads_beside_the_old_one_which_serves_meanwhile() -> None:
    assert plan(refs(TWO, ONE), {ONE: Phase.READY}, ONE) == Plan((TWO,), ONE, None, ())
    assert plan(refs(TWO, ONE), {ONE: Phase.READY, TWO: Phase.LOADING}, ONE) == Plan((), ONE, None, ())


def test_once_ready_the_new_version_serves_and_the_old_one_goes() -> None:
    assert plan(refs(TWO, ONE), {ONE: Phase.READY, TWO: Phase.READY}, ONE) == Plan((), TWO, None, (ONE,))


def test_a_refused_version_leaves_the_old_one_serving() -> None:
    assert plan(refs(TWO, ONE), {ONE: Phase.READY, TWO: Phase.REFUSED}, ONE) == Plan((), ONE, None, ())


def test_what_serves_goes_on_though_it_is_neither_stable_nor_previous() -> None:
    have = {ONE: Phase.READY, THREE: Phase.REFUSED}
    assert plan(refs(THREE, TWO), have, ONE).serve == ONE


def test_a_start_with_a_refused_stable_loads_previous() -> None:
    assert plan(refs(TWO, ONE), {TWO: Phase.REFUSED}, None).load == (ONE,)
    assert plan(refs(TWO, ONE), {TWO: Phase.REFUSED, ONE: Phase.READY}, None).serve == ONE


def test_previous_stays_while_it_serves_and_goes_when_stable_recovers() -> None:
    assert plan(refs(TWO, ONE), {TWO: Phase.FAILED, ONE: Phase.READY}, ONE).unload == ()
    assert plan(refs(TWO, ONE), {TWO: Phase.READY, ONE: Phase.READY}, ONE) == Plan((), TWO, None, (ONE,))


def test_a_failed_version_is_not_loaded_again_by_the_plan() -> None:
    assert plan(refs(ONE), {ONE: Phase.FAILED}, None) == Plan((), None, None, ())


def test_a_canary_loads_beside_and_takes_its_share_when_ready() -> None:
    wanted = refs(ONE, canary=TWO)
    assert plan(wanted, {ONE: Phase.READY}, ONE) == Plan((TWO,), ONE, None, ())
    assert plan(wanted, {ONE: Phase.READY, TWO: Phase.READY}, ONE) == Plan((), ONE, wanted.canary, ())


def test_a_refused_canary_leaves_all_traffic_with_stable() -> None:
    assert plan(refs(ONE, canary=TWO), {ONE: Phase.READY, TWO: Phase.REFUSED}, ONE) == Plan((), ONE, None, ())


def test_ending_a_canary_unloads_it() -> None:
    assert plan(refs(ONE), {ONE: Phase.READY, TWO: Phase.READY}, ONE).unload == (TWO,)


def test_a_promoted_canary_serves_without_another_load() -> None:
    assert plan(refs(TWO, ONE), {ONE: Phase.READY, TWO: Phase.READY}, ONE) == Plan((), TWO, None, (ONE,))


def test_an_explicit_end_unloads_everything() -> None:
    assert plan(refs(None), {ONE: Phase.READY}, ONE) == Plan((), None, None, (ONE,))


def test_a_superseded_load_is_given_up() -> None:
    have = {ONE: Phase.READY, TWO: Phase.LOADING}
    assert plan(refs(THREE, ONE), have, ONE) == Plan((THREE,), ONE, None, (TWO,))


def test_a_verdict_is_serving_or_hopeless() -> None:
    assert not has_verdict(refs(ONE), {}, None, {})
    assert not has_verdict(refs(ONE), {ONE: Phase.LOADING}, None, {})
    assert has_verdict(refs(ONE), {ONE: Phase.READY}, ONE, {})
    assert has_verdict(refs(ONE), {ONE: Phase.REFUSED}, None, {})
    assert has_verdict(refs(None), {}, None, {})


def test_a_refused_stable_waits_for_previous() -> None:
    assert not has_verdict(refs(TWO, ONE), {TWO: Phase.REFUSED}, None, {})
    assert not has_verdict(refs(TWO, ONE), {TWO: Phase.REFUSED, ONE: Phase.LOADING}, None, {})
    assert has_verdict(refs(TWO, ONE), {TWO: Phase.REFUSED, ONE: Phase.REFUSED}, None, {})


def test_a_failing_version_holds_up_readiness_only_so_often() -> None:
    failing = {ONE: Phase.FAILED}
    assert not has_verdict(refs(ONE), failing, None, {ONE: ATTEMPTS_BEFORE_VERDICT - 1})
    assert has_verdict(refs(ONE), failing, None, {ONE: ATTEMPTS_BEFORE_VERDICT})


def stood_in(stable: Ref, last_good: Ref, previous: Ref) -> Refs:
    return Refs(1, stable, previous, last_good=last_good)


def test_a_start_with_a_refused_stable_serves_the_last_good_one_before_previous() -> None:
    wanted = stood_in(THREE, ONE, TWO)
    assert plan(wanted, {THREE: Phase.REFUSED}, None).load == (ONE,)
    assert plan(wanted, {THREE: Phase.REFUSED, ONE: Phase.REFUSED}, None).load == (TWO,)
    assert plan(wanted, {THREE: Phase.REFUSED, ONE: Phase.READY}, None).serve == ONE


def test_where_stable_is_refused_the_refs_decide_and_not_what_served_before() -> None:
    """Or else two instances that see the same refs would serve different versions for good."""
    wanted, four = stood_in(THREE, ONE, ONE), Ref("4", "4" * 64)
    have = {four: Phase.READY, THREE: Phase.REFUSED}
    assert plan(wanted, have, four) == Plan((ONE,), four, None, ())
    assert plan(wanted, {**have, ONE: Phase.READY}, four) == Plan((), ONE, None, (four,))


def test_where_stable_only_fails_for_now_what_serves_goes_on() -> None:
    wanted, four = stood_in(THREE, ONE, ONE), Ref("4", "4" * 64)
    assert plan(wanted, {four: Phase.READY, THREE: Phase.FAILED}, four) == Plan((), four, None, ())


def test_a_verdict_waits_for_every_stand_in() -> None:
    wanted = stood_in(THREE, ONE, TWO)
    assert not has_verdict(wanted, {THREE: Phase.REFUSED, ONE: Phase.REFUSED}, None, {})
    assert has_verdict(wanted, {THREE: Phase.REFUSED, ONE: Phase.REFUSED, TWO: Phase.REFUSED}, None, {})


class Watching:
    """An instance that loads at once what the plan says."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.have: dict[Ref, Phase] = {}
        self.serving: Ref | None = None

    def look(self, wanted: Refs) -> None:
        for _ in range(20):
            step = plan(wanted, self.have, self.serving)
            self.serving = step.serve
            self.have = {ref: phase for ref, phase in self.have.items() if ref not in step.unload}
            for ref in step.load:
                self.have[ref] = Phase.REFUSED if int(ref.version) in self.bad else Phase.READY
            if not step.load and not step.unload:
                return
        raise AssertionError("the plan never comes to rest")


NAMED = st.one_of(st.none(), st.integers(1, 5))


@given(
    changes=st.lists(st.tuples(st.integers(1, 5), NAMED, NAMED, st.booleans()), min_size=1, max_size=12),
    bad=st.sets(st.integers(1, 5)),
)
def test_instances_that_see_the_same_refs_end_with_the_same_version(
    changes: Sequence[tuple[int, int | None, int | None, bool]], bad: set[int]
) -> None:
    """Whatever the older one saw before, and whichever changes it missed."""

    def ref(n: int | None) -> Ref | None:
        return None if n is None else Ref(str(n), str(n) * 64)

    old, wanted = Watching(bad), Refs(0)
    for stable, last_good, previous, looks in changes:
        wanted = Refs(1, ref(stable), ref(previous), last_good=ref(last_good))
        if looks:
            old.look(wanted)
    old.look(wanted)
    new = Watching(bad)
    new.look(wanted)
    named: Mapping[str, str] = wanted.named()
    if any(int(version) not in bad for version in named):
        assert old.serving == new.serving
    if old.serving is not None and old.serving.version in named:
        assert int(old.serving.version) not in bad
