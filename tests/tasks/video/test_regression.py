"""Task `video-regression`, published and converted as authors do, and its web side."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model_api.errors import InvalidInput, Refused
from model_api.processes.model_side.checks import PROBE_LIMITS
from model_api.publishing.draft import draft
from model_api.publishing.load_check import lacking
from model_api.tasks import find_task
from model_api.tasks.contract import Array
from model_api.tasks.video.regression import CLIP, FEATURES, GLANCE, PART, VideoWeb
from tests.needs import needs_package
from tests.rigs.project import ROOT
from tests.rigs.videos import small_c3d, small_video_model


@pytest.fixture(autouse=True)
def _with_pyav() -> None:
    needs_package("av")


def drafted(folder: Path, **options: Any) -> Any:
    return draft(folder, "judge", lambda done, total: None, options=options)


def web_of(folder: Path, **options: Any) -> VideoWeb:
    manifest = drafted(folder, **options).manifest
    opened = find_task("video-regression").open_web(folder, manifest, PROBE_LIMITS)
    assert isinstance(opened, VideoWeb)
    return opened


def asked(web: VideoWeb, model: Any, part: str, *inputs: Array) -> list[Any]:
    prepared = web.prepare(inputs, {PART: part})
    return web.finish(prepared, model.forward(prepared.arrays, prepared.parameters))


def clips(n: int = 3) -> list[Array]:
    return list(np.random.default_rng(2).integers(0, 256, (n, 16, 112, 112, 3), dtype=np.uint8))


def test_a_folder_without_a_tokenizer_is_a_model_of_videos(tmp_path: Path) -> None:
    made = drafted(small_video_model(tmp_path), score_factor=17.0)
    assert made.manifest.task == "video-regression"
    assert made.manifest.memory_bytes > 512 * 2**20
    assert [entry.path for entry in made.manifest.files] == ["config.json", "model.safetensors"]


def test_another_kind_of_model_still_needs_its_tokenizer(tmp_path: Path) -> None:
    folder = small_video_model(tmp_path)
    (folder / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    with pytest.raises(Refused, match=r"tokenizer\.json"):
        drafted(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(Refused, match="is no model for video-regression"):
        draft(folder, "judge", lambda done, total: None, "video-regression")


@pytest.mark.loads
def test_an_instance_would_load_it(tmp_path: Path) -> None:
    """The real load: warmed, compared with float32."""
    folder = small_video_model(tmp_path, content_head=True)
    manifest = drafted(folder, score_factor=17.0, content_minimum=0.4).manifest
    script = (
        "import json, sys\n"
        "from model_api.processes.model_side.load_check import _tried\n"
        "print(json.dumps(_tried(json.load(sys.stdin), sys.stderr)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps({"manifest": manifest.to_json(), "folder": str(folder)}),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert json.loads(done.stdout)["precision"] in ("bfloat16", "float32"), done.stderr
    assert '"stage": "warming"' in done.stderr


def test_the_parts_of_a_video_come_to_a_score(tmp_path: Path) -> None:
    folder = small_video_model(tmp_path, content_head=True)
    task = find_task("video-regression")
    web, manifest = web_of(folder, score_factor=17), drafted(folder).manifest
    model = task.load_model(folder, manifest, "float32")
    features = asked(web, model, CLIP, *clips())
    assert [one.shape for one in features] == [(16,)] * 3
    (judged,) = asked(web, model, FEATURES, np.mean(features, axis=0))
    tensors = load_file(folder / "model.safetensors")
    wanted = float(np.mean(features, axis=0) @ tensors["regression.weight"][0].numpy() + tensors["regression.bias"][0])
    assert judged["prediction"] == pytest.approx(wanted, rel=1e-4)
    assert judged["score"] == int(judged["prediction"] * 17)
    (plain,) = asked(web_of(folder), model, FEATURES, np.mean(features, axis=0))
    assert plain["score"] == plain["prediction"]
    (seen,) = asked(web, model, GLANCE, clips(1)[0])
    assert 0 <= seen["shown"] <= 1
    assert seen["minimum"] == 0.5


def test_a_class_of_the_network_can_be_the_content_check(tmp_path: Path) -> None:
    folder = small_video_model(tmp_path, n_classes=6)
    model = find_task("video-regression").load_model(folder, drafted(folder).manifest, "float32")
    shares = [
        asked(web_of(folder, content_class=number), model, GLANCE, clips(1)[0])[0]["shown"] for number in range(6)
    ]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert len(set(shares)) == 6
    (any_video,) = asked(web_of(folder), model, GLANCE, clips(1)[0])
    assert any_video["shown"] is None
    with pytest.raises(Refused, match="content_class is 6, the model has 6 classes"):
        web_of(folder, content_class=6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"content_minimum": 2}, "content_minimum"),
        ({"score_factor": "17"}, "score_factor"),
        ({"precision": "int8"}, "precision"),
        ({"content_class": -1}, "content_class"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        web_of(small_video_model(tmp_path), **options)


@pytest.mark.parametrize(
    ("inputs", "parameters"),
    [
        (["a.mp4"], {}),
        ([None], {}),
        ([{"b64": "AAAA"}], {PART: CLIP}),
        ([[[1, 2], [3, 4]]], {PART: FEATURES}),
        ([np.zeros((16, 112, 112, 3), np.uint8)], {}),
    ],
)
def test_no_video_comes_in_a_body(tmp_path: Path, inputs: list[Any], parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="comes by an upload with a job"):
        web_of(small_video_model(tmp_path)).prepare(inputs, parameters)


@pytest.mark.parametrize("parameters", [{"speed": 2}, {PART: CLIP}])
def test_an_unknown_parameter_is_refused(tmp_path: Path, parameters: dict[str, Any]) -> None:
    """`part` is nobody's to send either: it is of the jobs' own calls."""
    with pytest.raises(InvalidInput, match="unknown parameter"):
        web_of(small_video_model(tmp_path)).prepare([], parameters)


def test_without_pyav_a_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small_video_model(tmp_path)
    monkeypatch.setattr("model_api.tasks.video.regression.find_spec", lambda name: None)
    with pytest.raises(Refused, match=r"PyAV isn't installed \(requirements-video\.txt\)"):
        web_of(folder)


def test_an_author_without_pyav_is_told_that_nobody_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "av" else found(name))
    assert "av" in lacking("video-regression").split(", ")
    assert "av" not in lacking("embedding").split(", ")


@pytest.mark.integration
@pytest.mark.parametrize("wrapped", [False, True])
def test_pickled_weights_are_converted_in_the_sandbox(tmp_path: Path, wrapped: bool) -> None:
    """A `.pth` of C3D with a regression, as training scripts leave it, becomes a folder that an instance loads."""
    network, config = small_c3d(n_classes=3)
    old = tmp_path / "old"
    old.mkdir()
    state = {**network.state_dict(), "regression.weight": torch.randn(1, 8192), "regression.bias": torch.zeros(1)}
    saved: Any = {"state_dict": {f"module.{name}": value for name, value in state.items()}} if wrapped else state
    torch.save(saved, old / "c3d.pth")
    (old / "config.json").write_text(json.dumps(config.model_dump() | {"architectures": ["C3DForVideoRegression"]}))
    done = subprocess.run(
        [ROOT / "scripts" / "convert", old, tmp_path / "new"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "c3d.pth -> model.safetensors" in done.stdout
    converted = load_file(tmp_path / "new" / "model.safetensors")
    assert torch.equal(converted["conv5b.weight"], network.state_dict()["conv5b.weight"])
    model = find_task("video-regression").load_model(tmp_path / "new", drafted(tmp_path / "new").manifest, "float32")
    (row,) = model.forward(clips(1), {})
    assert row.shape == (8192 + 3,)


def test_a_pickle_that_is_more_than_tensors_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text('{"model_type": "c3d", "architectures": ["C3DForVideoRegression"]}')
    (old / "c3d.pth").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    done = subprocess.run(
        [ROOT / "scripts" / "convert", old, tmp_path / "new"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "c3d.pth" in done.stderr
    assert not (tmp_path / "owned").exists()
