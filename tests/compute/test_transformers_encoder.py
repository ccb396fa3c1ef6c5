from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from model_api.compute.transformers_encoder import ReferenceEncoder
from model_api.errors import Refused
from tests.rigs.small_models import VOCABULARY, by_transformers, random_texts

TEXTS = random_texts((3, 17, 1, 33, 17, 5))


def test_transformers_serves_any_other_architecture(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.MPNetConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=40,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
    )
    model = transformers.MPNetModel(config).eval()
    model.save_pretrained(tmp_path)
    encoder = ReferenceEncoder.load(tmp_path, "float32")
    assert encoder.max_tokens == 38
    longest = encoder.hidden_states([random_texts((38,))[0]])[0]
    assert longest.shape == (38, encoder.hidden_size)
    with pytest.raises(ValueError, match="1 to 38"):
        encoder.hidden_states([random_texts((39,))[0]])
    batch = encoder.pooled(TEXTS, "mean")
    for sequence, vector in zip(TEXTS, batch, strict=True):
        expected = by_transformers(model, sequence).mean(0).numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5)
        assert vector.tobytes() == encoder.pooled([sequence], "mean")[0].tobytes()
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "layer.1." not in k}, tmp_path / "model.safetensors")
    with pytest.raises(Refused, match=r"encoder\.layer\.1"):
        ReferenceEncoder.load(tmp_path, "float32")
