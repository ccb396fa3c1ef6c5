"""Every kind of model folder answers as its own library, within 1e-5 in float32, or its author is told why not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.catalogue.kind import TOLERANCE, Kind, difference
from tests.catalogue.kinds import KINDS
from tests.catalogue.served import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.end()


@pytest.fixture(scope="module", autouse=True)
def nothing_from_a_hub(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def test_kinds_have_names_of_their_own() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_it_answers_as_its_own_library_or_is_refused_by_name(kind: Kind, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    kind.build(folder)
    answer = server.answer(kind, folder)
    if kind.reference is None:
        assert kind.refused in answer.get("refused", ""), answer
        return
    assert "predictions" in answer, answer
    wanted = kind.reference(folder, kind.inputs, kind.parameters)
    differences = [difference(got, right) for got, right in zip(answer["predictions"], wanted, strict=True)]
    assert max(differences) <= TOLERANCE, list(zip(differences, kind.inputs, strict=True))
