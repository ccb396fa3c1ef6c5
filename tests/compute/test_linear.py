from itertools import pairwise

import pytest
import torch

from model_api.compute.linear import MAX_ROWS, ROW_COUNTS, Linear, prepacking_works, row_spans

torch.set_num_threads(1)  # as in a lane
DTYPES = (torch.float32, torch.bfloat16)


def random(*shape: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("prepack", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_in, n_out", [(384, 1152), (1536, 384), (48, 112), (48, 3)])
def test_a_row_does_not_depend_on_how_many_there_are(dtype: torch.dtype, prepack: bool, n_in: int, n_out: int) -> None:
    x, residual = random(600, n_in, seed=1, dtype=dtype), random(600, n_out, seed=2, dtype=dtype)
    layer = Linear(random(n_out, n_in, seed=3, dtype=dtype), torch.ones(n_out, dtype=dtype), prepack=prepack)
    with torch.inference_mode():
        whole = layer(x, residual)
        for rows in (*range(1, 35), 47, 64, 65, 100, 128, 191, 255, 500, 550):
            assert torch.equal(layer(x[7 : 7 + rows], residual[7 : 7 + rows]), whole[7 : 7 + rows]), rows


@pytest.mark.parametrize("prepack", [True, False])
@pytest.mark.parametrize("activation", [("gelu", "none"), ("gelu", "tanh"), ("relu", ""), ("none", "")])
def test_it_computes_what_it_says(activation: tuple[str, str], prepack: bool) -> None:
    x, weight = random(9, 64, seed=4, dtype=torch.float32), random(32, 64, seed=5, dtype=torch.float32) / 8
    bias = random(32, seed=6, dtype=torch.float32)
    product = x.double() @ weight.double().T + bias.double()
    kind, algorithm = activation
    if kind == "gelu":
        expected = torch.nn.functional.gelu(product, approximate=algorithm)
    else:
        expected = product.clamp_min(0) if kind == "relu" else product
    answer = Linear(weight, bias, activation, prepack=prepack)(x)
    torch.testing.assert_close(answer.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_prepacking_is_tried_and_found_right(dtype: torch.dtype) -> None:
    assert prepacking_works(dtype)


def test_only_few_numbers_of_rows_are_ever_computed() -> None:
    for rows in range(1, 3 * MAX_ROWS):
        spans = row_spans(rows)
        assert spans[0][0] == 0
        assert all(a[1] == b[0] for a, b in pairwise(spans))
        assert all(end - start in ROW_COUNTS for start, end in spans)
        assert rows <= spans[-1][1] <= rows + 15
    assert len(ROW_COUNTS) <= 40
