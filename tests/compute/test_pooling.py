import pytest
import torch

from model_api.compute.pooling import pool
from model_api.repository.sentence_modules import POOLINGS

TOKENS = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 1.0], [7.0, 7.0], [0.0, -9.0], [2.0, -3.0]])
LENGTHS = [2, 1, 3]


@pytest.mark.parametrize(
    "pooling, expected",
    [
        ("mean", [[2.0, 4.0], [5.0, 1.0], [3.0, -5 / 3]]),
        ("cls", [[1.0, 2.0], [5.0, 1.0], [7.0, 7.0]]),
        ("max", [[3.0, 6.0], [5.0, 1.0], [7.0, 7.0]]),
        ("mean_sqrt_len_tokens", [[4 / 2**0.5, 8 / 2**0.5], [5.0, 1.0], [9 / 3**0.5, -5 / 3**0.5]]),
        ("lasttoken", [[3.0, 6.0], [5.0, 1.0], [2.0, -3.0]]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_pooling(pooling: str, expected: list[list[float]], dtype: torch.dtype) -> None:
    assert pooling in POOLINGS
    pooled = pool(TOKENS.to(dtype), LENGTHS, pooling)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, torch.tensor(expected))


def test_an_unknown_pooling_is_an_error() -> None:
    with pytest.raises(ValueError, match="median"):
        pool(TOKENS, LENGTHS, "median")
