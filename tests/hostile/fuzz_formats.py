"""Coverage-guided fuzzing of every document on the shared file system, by atheris; test_fuzz.py runs it for a while.

python -m tests.hostile.fuzz_formats SEEDS_FOLDER -max_total_time=600
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from model_api.errors import Refused
    from model_api.repository.bounded_json import BadJson, parse_json
    from model_api.repository.checksums import format_sums, parse_sums
    from model_api.repository.generation import Generation
    from model_api.repository.manifest import Manifest
    from model_api.repository.refs import Refs
    from model_api.repository.statuses import read_statuses

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-formats-"))


def _refs(data: bytes) -> None:
    refs = Refs.from_json(data)
    assert Refs.from_json(refs.to_json()) == refs


def _manifest(data: bytes) -> None:
    manifest = Manifest.from_json(data)
    assert Manifest.from_json(manifest.to_json()).digest == manifest.digest


def _generation(data: bytes) -> None:
    generation = Generation.from_json(data)
    assert Generation.from_json(generation.opened("m").closed().to_json().encode()).since(generation.mark) != set()


def _sums(data: bytes) -> None:
    sums = parse_sums(data)
    assert parse_sums(format_sums(sums.items()).encode()) == sums


def _status(data: bytes) -> None:
    (_FOLDER / "status.json").write_bytes(data)
    for status in read_statuses(_FOLDER).values():
        status.state_of("m", "d" * 64)
        str(status).encode()


def _json(data: bytes) -> None:
    parse_json(data, 2**20)


FORMATS: tuple[Callable[[bytes], None], ...] = (_refs, _manifest, _generation, _sums, _status, _json)


def one_input(data: bytes) -> None:
    """The first byte chooses the format. Whatever follows is read or refused; any other exception is a finding."""
    if data:
        try:
            FORMATS[data[0] % len(FORMATS)](data[1:])
        except (Refused, BadJson) as error:
            str(error).encode()


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
