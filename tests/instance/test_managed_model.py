"""One model as it is shown and decided upon."""

from model_api.instance.managed_model import ManagedModel
from model_api.instance.planning import Phase
from model_api.instance.version import Version
from model_api.repository.manifest import FileEntry, Manifest
from model_api.repository.published import Published
from model_api.repository.refs import Ref, Refs


def manifest(version: str) -> Manifest:
    return Manifest("m", version, "embedding", (FileEntry("f", 1, version * 64),), 0)


ONE, TWO = manifest("1"), manifest("2")
REFS = Refs(3, Ref("2", TWO.digest), Ref("1", ONE.digest), None)


def test_what_the_refs_name_and_nobody_can_read_counts_as_refused() -> None:
    model = ManagedModel("m", Published("m", REFS, {"1": ONE}, {"2": "manifest.json: missing"}))
    assert model.phases() == {REFS.stable: Phase.REFUSED}
    assert model.state() == "refused"
    assert model.describe()["refused"] == [{"version": "2", "reason": "manifest.json: missing"}]


def test_a_stand_in_for_the_stable_version_is_called_degraded() -> None:
    one = Version(ONE, phase=Phase.READY)
    one.enter("ready")
    model = ManagedModel("m", Published("m", REFS, {"1": ONE, "2": TWO}), {one.ref: one}, serving=one)
    shown = model.describe()
    assert (shown["state"], shown["version"], shown["digest"]) == ("degraded", "1", ONE.digest)
    assert shown["since"].endswith("+00:00")


def test_reasons_of_the_repository_and_of_loading_are_both_shown() -> None:
    two = Version(TWO, phase=Phase.REFUSED, reason="probe 0: wrong")
    model = ManagedModel("m", Published("m", REFS, {"2": TWO}, {"": "a loose file is ignored"}), {two.ref: two})
    reasons = {(entry["version"], entry["reason"]) for entry in model.describe()["refused"]}
    assert reasons == {("", "a loose file is ignored"), ("2", "probe 0: wrong")}


def test_an_unpublished_model_says_so() -> None:
    assert ManagedModel("m", Published("m", None)).state() == "unpublished"


def pinning() -> tuple[ManagedModel, Version]:
    """Version 2 is stable; 1, which it replaced, is ready still."""
    one, two = Version(ONE, phase=Phase.READY), Version(TWO, phase=Phase.READY)
    model = ManagedModel("m", Published("m", REFS, {"2": TWO}), {one.ref: one, two.ref: two}, serving=two)
    return model, one


def test_a_replaced_version_stays_for_pinned_callers_and_then_tells_since_when() -> None:
    model, one = pinning()
    assert model.let_go([one.ref], now=100.0, pin_s=60.0) == []
    assert model.answering().ready["1"] is one
    assert model.let_go([one.ref], now=159.0, pin_s=60.0) == []
    assert model.let_go([one.ref], now=160.0, pin_s=60.0) == [one]
    assert (list(model.versions), model.pins) == ([REFS.stable], {})
    assert "version 2 replaced it at 20" in model.answering().gone["1"]


def test_a_pin_ends_when_the_version_is_named_again() -> None:
    model, one = pinning()
    model.let_go([one.ref], now=100.0, pin_s=60.0)
    model.unpin_all_but([])
    assert model.let_go([one.ref], now=161.0, pin_s=60.0) == []  # it counts from here on


def test_pinned_versions_make_room_and_nothing_is_pinned_without_a_pin_or_a_stable_version() -> None:
    model, one = pinning()
    model.let_go([one.ref], now=100.0, pin_s=60.0)
    assert model.release_pinned() == [one]
    assert model.release_pinned() == []
    model, one = pinning()
    assert model.let_go([one.ref], now=100.0, pin_s=0.0) == [one]
    model, one = pinning()
    model.published = Published("m", Refs(4))
    assert model.let_go([one.ref], now=100.0, pin_s=60.0) == [one]
    model, one = pinning()
    one.refuse("broken")
    assert model.let_go([one.ref], now=100.0, pin_s=60.0) == [one]
