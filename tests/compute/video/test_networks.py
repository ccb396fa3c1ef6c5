"""The networks: their parameters, what folding and bfloat16 change, and config.json's faults."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_api.compute.video.config import C3DConfig, R2Plus1DConfig, read_config
from model_api.compute.video.judge import VideoJudge
from model_api.compute.video.networks import C3D, R2Plus1D, normalise
from model_api.errors import Refused
from tests.rigs.videos import save_network, small_c3d, small_network, small_video_model


def clips(n: int = 3) -> Any:
    return np.random.default_rng(1).integers(0, 256, (n, 16, 112, 112, 3), dtype=np.uint8)


def parameters_of(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_parameters_are_those_of_the_published_networks() -> None:
    """C3D's convolutions, and with fc6 to fc8 for 487 sports; R(2+1)D with 18 layers for 400 actions, as torchvision
    has it (whose weights give the same bits in ours)."""
    with torch.device("meta"):
        assert parameters_of(C3D(C3DConfig())) == 27_655_936
        assert parameters_of(C3D(C3DConfig(hidden_sizes=[4096, 4096], n_classes=487))) == 79_991_015
        assert parameters_of(R2Plus1D(R2Plus1DConfig(n_classes=400))) == 31_505_325


def test_normalise_is_per_channel() -> None:
    frames = torch.tensor([0, 255, 51], dtype=torch.uint8).expand(1, 16, 112, 112, 3)
    found = normalise(frames, (0.5, 0.5, 0.2), (0.25, 0.5, 0.1))
    assert found.shape == (1, 3, 16, 112, 112)
    assert torch.allclose(found[0, :, 0, 0, 0], torch.tensor([-2.0, 1.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.999_999), ("bfloat16", 0.999)])
def test_what_serves_computes_what_was_trained(tmp_path: Path, precision: str, least: float) -> None:
    network, config = small_network(content_head=True, n_classes=4)
    tensors = save_network(tmp_path, network, config)
    given = clips()
    with torch.inference_mode():
        features, scores = network(normalise(torch.from_numpy(given), config.image_mean, config.image_std))
        assert scores is not None
        content = torch.sigmoid(features @ tensors["content.weight"].T + tensors["content.bias"])
        wanted = torch.cat([features, content, torch.softmax(scores, 1)], dim=1).numpy()
        mean = features.mean(0)
        prediction = float(mean @ tensors["regression.weight"][0] + tensors["regression.bias"])
    judge, reason = VideoJudge.load(tmp_path, precision)
    assert (judge.precision, reason, judge.n_features) == (precision, None, 16)
    for got, want in zip(judge.rows(list(given)), wanted, strict=True):
        assert got.dtype == np.float32
        assert float(got @ want / np.linalg.norm(got) / np.linalg.norm(want)) > least
    assert float(judge.prediction(mean.numpy())[0]) == pytest.approx(prediction, rel=1e-5)


def test_a_clip_gives_the_same_whatever_runs_beside_it(tmp_path: Path) -> None:
    judge, _ = VideoJudge.load(small_video_model(tmp_path), "float32")
    given = clips(6)
    together = judge.rows(list(given))
    alone = [judge.rows([clip])[0] for clip in given]
    assert np.allclose(np.stack(together), np.stack(alone), rtol=1e-4, atol=1e-5)


def test_int8_is_told_and_served_otherwise(tmp_path: Path) -> None:
    judge, reason = VideoJudge.load(small_video_model(tmp_path), "int8")
    assert judge.precision in ("float32", "bfloat16")
    assert reason == "video networks aren't served in int8"


def test_c3d_gives_the_layer_that_is_asked_for(tmp_path: Path) -> None:
    network, config = small_c3d(hidden_sizes=[32, 24], feature_layer="fc6", n_classes=5)
    save_network(tmp_path, network, config)
    judge, _ = VideoJudge.load(tmp_path, "float32")
    given = clips(1)
    with torch.inference_mode():
        features, scores = network(normalise(torch.from_numpy(given), config.image_mean, config.image_std))
    assert scores is not None
    (row,) = judge.rows(list(given))
    assert np.allclose(row[:32], features[0].numpy(), rtol=1e-4, atol=1e-5)
    assert np.allclose(row[32:], torch.softmax(scores, 1)[0].numpy(), rtol=1e-4, atol=1e-5)
    assert C3D(C3DConfig()).n_features == 8192


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"model_type": "i3d"}, "model_type 'i3d' is no network for videos; there are c3d, r2plus1d"),
        ({}, "model_type 'None'"),
        ([], "model_type 'None'"),
        ({"model_type": ["c3d"]}, "is no network for videos"),
        ({"model_type": "c3d", "feature_layer": "fc6"}, "feature_layer fc6 needs more hidden_sizes"),
        ({"model_type": "c3d", "hidden_sizes": [0]}, "hidden_sizes.0"),
        ({"model_type": "c3d", "image_std": [1, 0, 1]}, "image_std must be above 0"),
        ({"model_type": "r2plus1d", "widths": [8]}, "must have the same length"),
        ({"model_type": "r2plus1d", "widths": []}, "widths"),
        ({"model_type": "r2plus1d", "stem_stride": 0}, "stem_stride"),
        ({"model_type": "r2plus1d", "n_classes": -1}, "n_classes"),
    ],
)
def test_a_config_that_is_no_networks_is_refused(content: Any, words: str) -> None:
    with pytest.raises(Refused, match=r"config\.json") as caught:
        read_config(content)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"content_head": True}, "tensor 'content.weight' is missing"),
        ({"widths": [8, 24]}, "has the shape"),
        ({"n_classes": 3}, "tensor 'fc.weight' is missing"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = small_video_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(Refused) as caught:
        VideoJudge.load(folder, "float32")
    assert words in str(caught.value)
