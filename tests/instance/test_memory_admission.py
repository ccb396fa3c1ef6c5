"""A version that doesn't fit is refused with the figures, and what serves goes on serving."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model_api.publishing import changes as store_changes
from model_api.publishing import draft as publishing
from model_api.repository.layout import Layout
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.server import Server, server
from tests.rigs.small_models import save_small_t5
from tests.rigs.small_tokenizers import save_small_tokenizer

pytestmark = pytest.mark.integration
BUDGET_BYTES = 10**9


@pytest.fixture
def api(tmp_path: Path, tiny_author: Author) -> Iterator[Server]:
    settings = {"MODEL_API_EFS_ROOT": tiny_author.layout.root, "MODEL_API_LANES": 1}
    with server(tmp_path / "api", **settings, MODEL_API_MEMORY_BUDGET_BYTES=BUDGET_BYTES) as api:
        api.wait_until_ready()
        yield api


def publish_with_peak(author: Author, folder: Path, memory_bytes: int, options: dict[str, Any] | None = None) -> None:
    """Publish version 2, whose manifest says that loading it peaks at `memory_bytes`."""
    made = publishing.draft(tiny_model(folder, seed=2), "tiny", lambda done, total: None, options=options or {})
    made = replace(made, manifest=replace(made.manifest, memory_bytes=memory_bytes))
    publishing.publish(author.layout, made, lambda done, total: None)


def answering_version(api: Server) -> str:
    return api.post("/predict", {"model": "tiny", "inputs": "the cat"}).headers["x-model-version"]


@pytest.mark.parametrize("options", [{}, {"unload_first": True}], ids=["beside", "unload first would not help"])
def test_what_never_fits_is_told_with_figures_and_the_old_version_serves(
    tmp_path: Path, tiny_author: Author, api: Server, options: dict[str, Any]
) -> None:
    publish_with_peak(tiny_author, tmp_path / "two", 10**15, options)
    shown = api.wait_for_model("tiny", state="degraded", version="1")
    reasons = [entry["reason"] for entry in shown["refused"] if entry["version"] == "2"]
    assert "loading peaks at 1000000000 MB" in reasons[0]
    assert answering_version(api) == "1"
    assert api.get("/readyz").status == 200


def test_what_fits_only_without_the_old_version_is_loaded_after_it_if_the_model_says_so(
    tmp_path: Path, tiny_author: Author, api: Server
) -> None:
    served_bytes = api.wait_for_model("tiny", state="serving")["memory_bytes"]
    # More than is free by half of what the old version gives back.
    publish_with_peak(tiny_author, tmp_path / "two", BUDGET_BYTES - served_bytes // 2, {"unload_first": True})
    api.wait_for_model("tiny", state="serving", version="2")
    assert answering_version(api) == "2"
    assert [r["version"] for r in api.log_records() if r["message"] == "version unloaded first"] == ["1"]


def test_a_summarizer_is_admitted_by_what_its_conversion_takes(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "efs")
    store_changes.init(layout.root)
    save_small_t5(tmp_path / "t5")
    save_small_tokenizer(tmp_path / "t5", max_tokens=64, ends="t5")
    made = publishing.draft(tmp_path / "t5", "summary", lambda done, total: None)
    publishing.publish(layout, made, lambda done, total: None)
    settings = {"MODEL_API_EFS_ROOT": layout.root, "MODEL_API_MEMORY_BUDGET_BYTES": 200 * 2**20}
    with server(tmp_path / "api", **settings) as api:
        shown = api.wait_for_model("summary", state="failed")
        assert "loading peaks at 269 MB, 210 MB are free" in shown["refused"][0]["reason"]
