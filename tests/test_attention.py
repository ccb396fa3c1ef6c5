import pytest
import torch

from model_api.attention import attend, groups_of_equal_length

torch.set_num_threads(1)  # as in a lane
N_HEADS, HIDDEN = 4, 64


def random_rows(n_rows: int) -> torch.Tensor:
    return torch.randn(n_rows, 3 * HIDDEN, generator=torch.Generator().manual_seed(1))


def by_definition(rows: torch.Tensor) -> torch.Tensor:
    query, key, value = rows.double().view(-1, 3, N_HEADS, HIDDEN // N_HEADS).permute(1, 2, 0, 3)
    context: torch.Tensor = torch.softmax(query @ key.mT, -1) @ value
    return context.transpose(0, 1).reshape(-1, HIDDEN)


def test_groups_are_runs_of_equal_lengths() -> None:
    assert groups_of_equal_length([2, 2, 5, 7, 7, 7]) == [(0, 2, 2), (4, 1, 5), (9, 3, 7)]
    assert groups_of_equal_length([4]) == [(0, 1, 4)]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 6e-2)])
def test_each_sequence_attends_to_itself_alone(dtype: torch.dtype, tolerance: float) -> None:
    lengths = [1, 2, 2, 31, 48, 49, 64, 65, 65, 130]
    rows = random_rows(sum(lengths)).to(dtype)
    surplus = torch.ones(5, 3 * HIDDEN, dtype=dtype)
    with torch.inference_mode():
        together = attend(torch.cat([rows, surplus]), groups_of_equal_length(lengths), N_HEADS)
        assert together.shape == (len(rows) + 5, HIDDEN)
        for own, context in zip(torch.split(rows, lengths), torch.split(together[:-5], lengths), strict=True):
            torch.testing.assert_close(context.double(), by_definition(own), rtol=tolerance, atol=tolerance)
            assert torch.equal(context, attend(own, [(0, 1, len(own))], N_HEADS))
