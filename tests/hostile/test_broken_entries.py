"""One broken entry hurts itself alone: whatever lies in the store, the others are served, shown and published."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from model_api.errors import Refused, RepositoryUnavailable, StoreFull
from model_api.local_store.last_seen import FILE_NAME, recall, remember
from model_api.local_store.local_store import LocalStore
from model_api.publishing.draft import draft
from model_api.publishing.moves import promote
from model_api.repository.layout import Layout, mount_check
from model_api.repository.manifest import FileEntry, Manifest
from model_api.repository.reader import Repository
from model_api.repository.refs import Refs
from model_api.repository.statuses import read_statuses, write_status
from tests.rigs.author import Author
from tests.rigs.model_folders import make_folder
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import server
from tests.rigs.stores import new_store, published, quiet

Break = Callable[[Path], object]


def text(content: str) -> Break:
    return lambda file: file.write_text(content)


def link(target: str) -> Break:
    def apply(file: Path) -> None:
        file.unlink(missing_ok=True)
        file.symlink_to(target)

    return apply


def pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def long(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(300 * 10**6)


def folder(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.mkdir()


FILES: dict[str, Break] = {
    "deep": text("[" * 100_000),
    "deep and closed": text("[" * 50_000 + "]" * 50_000),
    "a link to zeros": link("/dev/zero"),
    "a link that leads nowhere": link("/nowhere"),
    "a pipe": pipe,
    "300 MB": long,
    "20 MB of junk": text("junk" * 5_000_000),
    "a folder": folder,
    "not UTF-8": lambda file: file.write_bytes(b'{"\xe9": 1}'),
    "empty": text(""),
}


def change(path: str, value: str) -> Break:
    """Put `value`, which may be no JSON that Python would write, where the document has `path`."""

    def apply(file: Path) -> None:
        document = json.loads(file.read_text())
        *above, last = path.split(".")
        inner = document
        for key in above:
            inner = inner[int(key)] if isinstance(inner, list) else inner[key]
        inner[last] = "@here@"
        file.write_text(json.dumps(document).replace('"@here@"', value))

    return apply


REFS = FILES | {
    "generation 1e999": change("generation", "1e999"),
    "generation 10^400": change("generation", "1" + "0" * 400),
    "generation 2^53": change("generation", str(2**53)),
    "generation NaN": change("generation", "NaN"),
    "half a character": change("stable.version", '"\\ud800"'),
    "a version elsewhere": change("stable.version", '"../../other/versions/1"'),
    "published deep": change("published", '{"a":' * 500 + "1" + "}" * 500),
}
MANIFESTS = FILES | {
    "memory 1e999": change("memory_bytes", "1e999"),
    "memory 10^400": change("memory_bytes", "1" + "0" * 400),
    "memory negative": change("memory_bytes", "-1"),
    "memory 2^60": change("memory_bytes", str(2**60)),
    "a file of 10^17 bytes": change("files.0.size", str(10**17)),
    "half a character in the task": change("task", '"\\ud800"'),
    "half a character in an option": change("options.pooling", '"\\ud800"'),
    "a control character in the task": change("task", '"a\\u001b[2J"'),
    "an infinite tolerance": change("options.tolerance", "1e999"),
}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = new_store(tmp_path / "efs")
    for name in ("a-good", "m-broken", "z-good"):
        published(layout, make_folder(tmp_path / name, len(name)), name, options={"pooling": "mean"})
    return layout


def assert_only_the_broken_one_suffers(layout: Layout, tmp_path: Path) -> str:
    """For a reader that knows nothing yet, and for authors; the reason that is told."""
    began_s = time.monotonic()
    seen = Repository(layout.root).observe(None)
    assert time.monotonic() - began_s < 5
    assert seen["a-good"].refs is not None
    assert not seen["a-good"].refused
    assert seen["z-good"].refs is not None
    assert not seen["z-good"].refused
    assert seen["m-broken"].refused
    published(layout, make_folder(tmp_path / "next", 9), "newcomer")
    assert "newcomer" in Repository(layout.root).observe(None)
    reason = " ".join(seen["m-broken"].refused.values())
    reason.encode()
    assert len(reason) < 1000
    return reason


@pytest.mark.parametrize("kind", REFS)
def test_broken_refs(layout: Layout, tmp_path: Path, kind: str) -> None:
    watching = Repository(layout.root)
    before = watching.observe(None)["m-broken"]
    REFS[kind](layout.refs("m-broken"))
    assert "refs.json" in assert_only_the_broken_one_suffers(layout, tmp_path) or "link" in kind
    after = watching.observe(None)["m-broken"]  # who knew it goes on with what it knew
    assert after.refs == before.refs
    assert after.refused[""]
    with pytest.raises((Refused, OSError)):
        promote(layout, "m-broken", "1")


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_broken_manifest(layout: Layout, tmp_path: Path, kind: str) -> None:
    MANIFESTS[kind](layout.version("m-broken", "1") / "manifest.json")
    assert "manifest.json" in assert_only_the_broken_one_suffers(layout, tmp_path)


@pytest.mark.parametrize("kind", FILES)
def test_broken_sums_of_a_plain_folder(layout: Layout, tmp_path: Path, kind: str) -> None:
    layout.model("m-broken").rename(tmp_path / "away")
    make_folder(layout.model("m-broken"))
    FILES[kind](layout.model("m-broken") / "SHA256SUMS")
    repository = Repository(layout.root, settle_s=0.2)

    def told() -> bool:
        return not repository.observe(None)["m-broken"].waiting

    repository.observe(None)
    wait_until(told, within_s=30, every_s=0.1)
    assert repository.observe(None)["m-broken"].refs is None
    assert assert_only_the_broken_one_suffers(layout, tmp_path)


@pytest.fixture
def bottomless(tmp_path: Path) -> Iterator[Path]:
    """A folder with 1,100 others in each other."""
    top = tmp_path / "bottomless"
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(1_100):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    yield top
    subprocess.run(["rm", "-rf", tmp_path], check=True)  # what Python has for it recurses


def test_folders_in_folders(layout: Layout, tmp_path: Path, bottomless: Path) -> None:
    layout.model("m-broken").rename(tmp_path / "away")
    make_folder(bottomless)
    with pytest.raises(Refused, match="deeper than 32"):
        draft(bottomless, "m-broken", quiet)
    bottomless.rename(layout.model("m-broken"))
    assert "deeper than 32" in assert_only_the_broken_one_suffers(layout, tmp_path)


@pytest.mark.parametrize("kind", FILES)
def test_a_broken_status_hides_no_other(tmp_path: Path, kind: str) -> None:
    write_status(tmp_path, "good", {"models": []})
    FILES[kind](tmp_path / "broken.json")
    began_s = time.monotonic()
    assert list(read_statuses(tmp_path)) == ["good"]
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize("kind", FILES)
def test_a_broken_marker_is_a_store_that_is_away(layout: Layout, kind: str) -> None:
    FILES[kind](layout.marker)
    began_s = time.monotonic()
    with pytest.raises(RepositoryUnavailable):
        mount_check(layout.root)
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize("kind", FILES)
def test_a_broken_generation_hides_nothing(layout: Layout, kind: str) -> None:
    repository = Repository(layout.root)
    repository.look()
    FILES[kind](layout.generation)
    assert set(repository.look() or ()) == {"a-good", "m-broken", "z-good"}


@pytest.mark.parametrize("kind", FILES)
def test_a_broken_memory_is_no_memory(layout: Layout, tmp_path: Path, kind: str) -> None:
    remember(tmp_path, Repository(layout.root).observe(None))
    assert set(recall(tmp_path)) == {"a-good", "m-broken", "z-good"}
    FILES[kind](tmp_path / FILE_NAME)
    try:
        assert recall(tmp_path) == {}
    except OSError:
        assert "nowhere" in kind


def test_a_broken_entry_of_the_memory_is_the_only_one_forgotten(layout: Layout, tmp_path: Path) -> None:
    remember(tmp_path, Repository(layout.root).observe(None))
    raw = json.loads((tmp_path / FILE_NAME).read_text())
    raw["models"]["m-broken"]["refs"] = "[" * 100_000
    (tmp_path / FILE_NAME).write_text(json.dumps(raw))
    assert set(recall(tmp_path)) == {"a-good", "z-good"}


def test_a_listed_file_of_any_size_evicts_no_good_copy(layout: Layout, tmp_path: Path) -> None:
    seen = Repository(layout.root).observe(None)
    store = LocalStore(tmp_path / "store")
    good = seen["a-good"]
    store.fetch(good.manifests["1"], good.sources["1"], quiet, immutable=True)
    bad = seen["m-broken"]
    manifest = bad.manifests["1"]
    for size in (2**50, 10**17):
        files = (FileEntry(manifest.files[0].path, size, manifest.files[0].sha256), *manifest.files[1:])
        huge = Manifest("m-broken", "1", manifest.task, files, 0)
        with pytest.raises((Refused, StoreFull)):
            store.fetch(huge, bad.sources["1"], quiet, immutable=True)
        assert store.digests() == [good.manifests["1"].digest]
    with (bad.sources["1"] / manifest.files[0].path).open("r+b") as stream:
        stream.truncate(8 * 2**40)  # really there, and sparse
    with pytest.raises(StoreFull, match="can be had"):
        store.fetch(huge, bad.sources["1"], quiet, immutable=True)
    assert store.digests() == [good.manifests["1"].digest]


def test_refs_that_go_back_are_taken_once_they_stay(layout: Layout) -> None:
    repository = Repository(layout.root)
    old = layout.refs("m-broken").read_text()
    for version in ("1", "1"):
        promote(layout, "m-broken", version)
    newer = old.replace('"generation": 1', '"generation": 7')
    layout.refs("m-broken").write_text(newer)
    refs = repository.observe(None)["m-broken"].refs
    assert refs is not None
    assert refs.generation == 7
    layout.refs("m-broken").write_text(old)
    for _ in range(3):
        seen = repository.observe(None)["m-broken"]
        assert seen.refs == refs
        assert "generation 1 after 7" in seen.refused[""]
    seen = repository.observe(None)["m-broken"]
    assert seen.refs is not None
    assert seen.refs.generation == 1
    assert "went back from generation 7 to 1" in seen.refused[""]
    layout.refs("m-broken").write_text(old.replace('"generation": 1', '"generation": 2'))
    assert not repository.observe(None)["m-broken"].refused


WORDS = (
    "generation stable previous canary version digest percent published model task files path size sha256 memory_bytes"
    " options probes inputs outputs instance heartbeat models name state refused deleted"
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("1") | st.just("a" * 64),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS.split()),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(anything)
@example({"generation": 10**400})
@example({"generation": 1, "stable": {"version": "1", "digest": "a" * 64, "percent": float("inf")}})
@example({"instance": "\ud800", "heartbeat": 1, "models": [{"name": "\ud800"}]})
def test_any_document_is_read_or_refused(tmp_path: Path, document: Any) -> None:
    raw = json.dumps(document)
    outcomes: list[object] = []
    for parse in (Refs.from_json, Manifest.from_json):
        try:
            outcomes.append(parse(raw))
        except Refused as error:
            outcomes.append(str(error))
    (tmp_path / "status.json").write_text(raw)
    outcomes.append(read_statuses(tmp_path))
    assert len(outcomes) == 3
    assert str(outcomes).encode()


@pytest.mark.integration
def test_an_instance_among_all_of_it(tmp_path: Path) -> None:
    """A server that starts on a store full of broken entries: it gets ready, serves, shows and reports."""
    author = Author(tmp_path / "efs")
    layout = author.layout
    author.publish(tiny_model(tmp_path / "good", 1), "good")
    for number, (kind, damage) in enumerate([*REFS.items(), *MANIFESTS.items()]):
        name = f"broken-{number:02d}"
        published(layout, make_folder(tmp_path / name, number), name, options={"pooling": "mean"})
        damage(
            layout.refs(name) if kind in REFS and number < len(REFS) else layout.version(name, "1") / "manifest.json"
        )
    (layout.models / "my model").mkdir()
    (layout.models / os.fsdecode(b"\xe9vil.json")).symlink_to("/dev/zero")
    layout.statuses.mkdir()
    os.mkfifo(layout.statuses / "pipe.json")
    with server(tmp_path / "instance", MODEL_API_EFS_ROOT=layout.root, MODEL_API_LANES=1) as api:
        api.wait_until_ready()
        assert api.post("/predict", {"model": "good", "inputs": "text"}).status == 200
        assert api.get("/mount_check").status == 200
        rows = {model["name"]: model for model in api.get("/models").json()["models"]}
        assert rows["good"]["state"] == "serving"
        assert rows["my model"]["state"] == rows["\\xe9vil.json"]["state"] == "ignored"
        for name, row in rows.items():
            assert (row["state"] in ("refused", "ignored")) == (name != "good"), row
            assert name == "good" or row["refused"][0]["reason"]
        wait_until(lambda: api.instance in read_statuses(layout.statuses))
        author.publish(tiny_model(tmp_path / "better", 2), "good")
        api.wait_for_model("good", version="2", state="serving")
