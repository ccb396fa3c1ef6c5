"""How refs change: on proof. Each sentence is a habit of authors, without any file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from model_api.errors import Refused
from model_api.publishing.rules import (
    rolled_back,
    taken_back,
    unloaded,
    with_canary,
    with_evidence,
    with_proof,
    with_published,
    with_stable,
    without_proof,
)
from model_api.repository.refs import Ref, Refs
from model_api.repository.statuses import Status

ONE, TWO, THREE, FOUR = (Ref(str(n), str(n) * 64) for n in (1, 2, 3, 4))


def published(refs: Refs, ref: Ref) -> Refs:
    return with_stable(with_published(refs, ref), ref)


def status(instance: str, serving: Ref | None, *refused: Ref) -> Status:
    """An instance that serves one version and refuses others."""
    versions = [{"version": ref.version, "digest": ref.digest, "state": "refused", "reason": "bad"} for ref in refused]
    model: dict[str, Any] = {"name": "m", "versions": versions}
    if serving is not None:
        model |= {"version": serving.version, "digest": serving.digest}
    return Status(instance, 1, (model,))


def seen(refs: Refs, *statuses: Status) -> Refs:
    return with_evidence(refs, "m", {one.instance: one for one in statuses})


def test_a_version_that_serves_somewhere_is_the_last_good_one() -> None:
    refs = published(Refs(0), ONE)
    assert refs.last_good is None
    refs = seen(refs, status("i", ONE))
    assert (refs.last_good, refs.proven) == (ONE, ("1",))


def test_refused_versions_in_a_row_leave_the_good_one_as_previous_and_last_good() -> None:
    """e1, bad1, bad2: what a new instance falls back to, and what retire must keep."""
    refs = seen(published(Refs(0), ONE), status("i", ONE))
    refs = seen(published(refs, TWO), status("i", ONE, TWO))
    refs = published(refs, THREE)
    assert (refs.stable, refs.previous, refs.last_good) == (THREE, ONE, ONE)
    refs = seen(refs, status("i", ONE, THREE))
    assert refs.stand_ins() == (ONE,)
    assert set(refs.refused) == {"2", "3"}


def test_a_rollback_after_a_refused_and_a_good_version_goes_to_the_good_one_before() -> None:
    refs = seen(published(Refs(0), ONE), status("i", ONE))
    refs = seen(published(refs, TWO), status("i", ONE, TWO))
    refs = seen(published(refs, THREE), status("i", THREE))
    refs = rolled_back(refs)
    assert (refs.stable, refs.previous) == (ONE, THREE)
    assert rolled_back(refs).stable == THREE


def test_a_version_nobody_judged_yet_does_not_push_the_good_one_out() -> None:
    refs = seen(published(Refs(0), ONE), status("i", ONE))
    refs = published(published(refs, TWO), THREE)
    assert refs.previous == ONE


def test_without_any_status_previous_is_what_was_stable_and_a_second_rollback_undoes_the_first() -> None:
    refs = published(published(published(Refs(0), ONE), TWO), THREE)
    assert (refs.previous, refs.last_good) == (TWO, None)
    back = rolled_back(refs)
    assert (back.stable, back.previous) == (TWO, THREE)
    assert rolled_back(back).stable == THREE


def test_there_is_nothing_to_roll_back_to_where_all_else_is_refused() -> None:
    refs = published(published(Refs(0), ONE), TWO)
    with pytest.raises(Refused, match="no previous version"):
        rolled_back(published(Refs(0), ONE))
    with pytest.raises(Refused, match="no previous version"):
        rolled_back(seen(refs, status("i", TWO, ONE)))


def test_one_that_refuses_outweighs_those_that_serve() -> None:
    refs = seen(published(Refs(0), ONE), status("i", ONE))
    refs = seen(published(refs, TWO), status("i", TWO), status("j", ONE, TWO))
    assert refs.last_good == ONE
    assert refs.refused == {"2": "j: bad"}
    assert seen(refs, status("i", TWO), status("j", TWO)).last_good == TWO  # it was mended, or that instance left


def test_the_authors_own_load_is_proof_too() -> None:
    refs = with_proof(with_published(Refs(0), ONE), ONE)
    assert with_stable(refs, ONE).last_good == ONE


def test_what_was_retired_is_no_longer_proven() -> None:
    refs = seen(published(published(Refs(0), ONE), TWO), status("i", ONE), status("j", TWO))
    refs = seen(published(refs, THREE), status("i", THREE))
    assert rolled_back(without_proof(refs, "2")).stable == ONE


def test_a_refused_publish_is_taken_back_as_it_was() -> None:
    before = with_canary(seen(published(Refs(0), ONE), status("i", ONE)), TWO, 5)
    after = published(before, THREE)
    undone = taken_back(after, before, THREE, "i: bad")
    assert (undone.stable, undone.canary, undone.last_good) == (ONE, before.canary, ONE)
    assert undone.refused == {"3": "i: bad"}
    first = taken_back(published(Refs(0), ONE), Refs(0), ONE, "i: bad")
    assert (first.stable, first.named()) == (None, {})


def test_a_newer_change_is_not_taken_back() -> None:
    before = seen(published(Refs(0), ONE), status("i", ONE))
    newer = published(published(before, TWO), THREE)
    assert taken_back(newer, before, TWO, "i: bad").stable == THREE
    canary = with_canary(published(before, TWO), THREE, 5)
    undone = taken_back(canary, before, TWO, "i: bad")
    assert (undone.stable, undone.canary) == (ONE, canary.canary)


def test_a_refused_canary_is_taken_back() -> None:
    before = published(Refs(0), ONE)
    undone = taken_back(with_canary(with_published(before, TWO), TWO, 5), before, TWO, "i: bad")
    assert (undone.stable, undone.canary) == (ONE, None)


def test_a_tombstone_names_nothing_and_a_publish_ends_it() -> None:
    gone = unloaded(seen(published(Refs(0), ONE), status("i", ONE)), "deleted")
    assert (gone.named(), gone.deleted) == ({}, "deleted")
    assert published(gone, TWO).deleted == ""


def old_release(text: str) -> Refs:
    """What a release before `last_good` makes of refs.json: it reads four keys and writes them back."""
    raw = json.loads(text)
    kept = {key: raw[key] for key in ("generation", "stable", "previous", "canary", "published")}
    return Refs.from_json(json.dumps(kept))


def test_old_and_new_releases_read_each_others_refs() -> None:
    refs = seen(published(Refs(0), ONE), status("i", ONE))
    refs = seen(published(published(refs, TWO), THREE), status("i", ONE, TWO, THREE))
    old = old_release(refs.to_json())
    assert (old.stable, old.previous) == (THREE, ONE)  # an old instance falls back to the good one
    assert old.stand_ins() == (ONE,)
    assert Refs.from_json(refs.to_json()) == refs


def test_keys_of_a_later_release_are_kept() -> None:
    raw = {**json.loads(published(Refs(0), ONE).to_json()), "shadow": {"version": "9"}}
    assert json.loads(Refs.from_json(json.dumps(raw)).to_json())["shadow"] == {"version": "9"}


ACTS = st.lists(
    st.tuples(st.sampled_from(["publish", "promote", "rollback", "canary", "look"]), st.integers(1, 5)), max_size=25
)


@given(acts=ACTS, bad=st.sets(st.integers(1, 9)))
def test_whatever_authors_do_the_stand_ins_are_never_known_to_be_bad(
    acts: Sequence[tuple[str, int]], bad: set[int]
) -> None:
    refs, looked_at_all = Refs(0), False

    def look(now: Refs) -> Refs:
        known = [Ref(v, d) for v, d in {**now.published}.items()]
        refused = [ref for ref in known if int(ref.version) in bad]
        good = [ref for ref in known if int(ref.version) not in bad]
        return seen(now, *(status(f"i{n}", ref, *refused) for n, ref in enumerate(good or [None])))

    for act, n in acts:
        versions: Mapping[str, str] = refs.published
        try:
            if act == "publish" and len(versions) < 9:
                refs = published(refs, Ref(str(len(versions) + 1), str(len(versions) + 1) * 64))
            elif act == "promote" and str(n) in versions:
                refs = with_stable(refs, Ref(str(n), str(n) * 64))
            elif act == "rollback":
                refs = rolled_back(refs)
            elif act == "canary" and str(n) in versions:
                refs = with_canary(refs, Ref(str(n), str(n) * 64), 5)
            elif act == "look":
                refs, looked_at_all = look(refs), True
        except Refused:
            continue
        assert not {ref.version for ref in refs.stand_ins()} & set(refs.refused)
        assert refs.previous is None or refs.previous.version not in refs.refused
        assert refs.last_good is None or refs.last_good.version in refs.proven
        assert Refs.from_json(refs.to_json()) == refs
    if looked_at_all and refs.stable is not None:
        refs = look(refs)
        good_ones = [v for v in refs.published if int(v) not in bad]
        assert (refs.last_good is not None) == bool(good_ones)
        assert replace(refs, generation=1).stand_ins() == refs.stand_ins()
