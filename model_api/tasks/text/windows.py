"""Long texts by windows that overlap, as transformers' tokenizers cut them."""

from model_api.errors import InvalidInput

MAX_WINDOWS = 2000  # of one request: each is a row for the encoder


def windows_of(count: int, size: int, stride: int) -> list[tuple[int, int]]:
    """(start, end) of windows of at most `size` of `count` tokens, of which each but the first begins with the last
    `stride` of the one before; the last ends where the tokens do. Needs stride < size; one window where all fits."""
    if count <= size:
        return [(0, count)]
    step = size - stride
    return [(start, min(start + size, count)) for start in range(0, count - stride, step)]


def check_windows(n_windows: int, pointer: str) -> None:
    """Raises InvalidInput at `pointer` for more windows up to there than a request may have."""
    if n_windows > MAX_WINDOWS:
        raise InvalidInput(f"more than {MAX_WINDOWS:,} windows up to here, send it in several requests", pointer)
