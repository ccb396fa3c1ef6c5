import pytest
import torch

from model_api.compute.attention import attend, groups_of

torch.set_num_threads(1)  # as in a lane
N_HEADS, HIDDEN = 4, 64


def random_rows(n_rows: int) -> torch.Tensor:
    return torch.randn(n_rows, 3 * HIDDEN, generator=torch.Generator().manual_seed(1))


def by_definition(rows: torch.Tensor) -> torch.Tensor:
    query, key, value = rows.double().view(-1, 3, N_HEADS, HIDDEN // N_HEADS).permute(1, 2, 0, 3)
    context: torch.Tensor = torch.softmax(query @ key.mT, -1) @ value
    return context.transpose(0, 1).reshape(-1, HIDDEN)


def test_short_sequences_of_several_lengths_are_one_group() -> None:
    groups = groups_of([2, 3, 8, 9, 60, 60, 61])
    assert [(g.start, g.end, g.count, g.length) for g in groups] == [
        (0, 13, 3, 8),
        (13, 22, 1, 16),
        (22, 142, 2, 60),
        (142, 203, 1, 61),
    ]
    places = groups[0].places
    assert places is not None
    assert places.rows.view(3, 8)[:2].tolist() == [[0, 1, 0, 0, 0, 0, 0, 0], [2, 3, 4, 2, 2, 2, 2, 2]]
    assert places.real.tolist() == [0, 1, 8, 9, 10, *range(16, 24)]
    assert places.mask[:, 0].isinf().sum(1).tolist() == [6, 5, 0]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 6e-2)])
def test_each_sequence_attends_to_itself_alone(dtype: torch.dtype, tolerance: float) -> None:
    lengths = [1, 2, 2, 8, 9, 15, 31, 33, 48, 49, 64, 65, 65, 130]
    rows = random_rows(sum(lengths)).to(dtype)
    surplus = torch.ones(5, 3 * HIDDEN, dtype=dtype)
    with torch.inference_mode():
        together = attend(torch.cat([rows, surplus]), groups_of(lengths), N_HEADS)
        assert together.shape == (len(rows) + 5, HIDDEN)
        for own, context in zip(torch.split(rows, lengths), torch.split(together[:-5], lengths), strict=True):
            torch.testing.assert_close(context.double(), by_definition(own), rtol=tolerance, atol=tolerance)
            assert torch.equal(context, attend(own, groups_of([len(own)]), N_HEADS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bits_do_not_depend_on_the_company(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    for _ in range(30):
        lengths = torch.randint(1, 50, (int(torch.randint(1, 40, (1,), generator=generator)),), generator=generator)
        sorted_lengths = sorted(lengths.tolist())
        rows = torch.randn(sum(sorted_lengths), 3 * HIDDEN, generator=generator).to(dtype)
        with torch.inference_mode():
            together = attend(rows, groups_of(sorted_lengths), N_HEADS)
            contexts = torch.split(together, sorted_lengths)
            for own, context in zip(torch.split(rows, sorted_lengths), contexts, strict=True):
                assert torch.equal(context, attend(own, groups_of([len(own)]), N_HEADS))
