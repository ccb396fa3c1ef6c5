"""Ready is decided by what was promised: something of it must serve."""

import logging

import pytest

from model_api.instance.managed_model import ManagedModel
from model_api.instance.planning import Phase
from model_api.instance.readiness import ReadinessLatch
from model_api.instance.version import Version
from model_api.repository.manifest import FileEntry, Manifest
from model_api.repository.published import Published
from model_api.repository.refs import Ref, Refs


def model(name: str, phase: Phase) -> ManagedModel:
    manifest = Manifest(name, "1", "embedding", (FileEntry("config.json", 1, "0" * 64),), 1)
    ref = Ref("1", manifest.digest)
    version = Version(manifest, phase)
    managed = ManagedModel(name, Published(name, Refs(1, ref), {"1": manifest}), {ref: version})
    managed.serving = version if phase == Phase.READY else None
    return managed


def ready(names: tuple[str, ...] | None, **phases: Phase) -> bool:
    latch = ReadinessLatch(names)
    latch.update({name: model(name, phase) for name, phase in phases.items()}, observed=True)
    return latch.ready


def test_an_empty_store_is_ready() -> None:
    assert ready(None)


def test_one_bad_model_holds_nothing_up() -> None:
    assert ready(None, good=Phase.READY, bad=Phase.REFUSED)
    assert ready(("good", "bad"), good=Phase.READY, bad=Phase.REFUSED)


def test_an_instance_that_serves_nothing_of_what_was_promised_gets_no_traffic() -> None:
    assert ready(None, bad=Phase.REFUSED)  # nothing was promised
    assert not ready(("one", "two"), one=Phase.REFUSED, two=Phase.REFUSED)
    assert not ready(("good", "late"), good=Phase.READY, late=Phase.LOADING)


def test_it_becomes_ready_when_something_serves_and_stays_so() -> None:
    latch, seen = ReadinessLatch(("m",)), []
    for phase in (Phase.REFUSED, Phase.READY, Phase.REFUSED):
        latch.update({"m": model("m", phase)}, observed=True)
        seen.append(latch.ready)
    assert seen == [False, True, True]


def test_a_mistyped_name_is_told_in_the_verdict_and_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    latch = ReadinessLatch(("minlm",))
    models = {"minilm": model("minilm", Phase.READY)}
    with caplog.at_level(logging.WARNING):
        latch.update(models, observed=True)
        latch.update(models, observed=True)
    assert not latch.ready
    assert latch.verdicts(models) == {"minlm": "not published; did you mean 'minilm'?"}
    assert len(caplog.records) == 1
