"""Targets for atheris: what reads a stranger's files, fed with bytes that coverage guides.

`python -m tests.hostile.fuzzing TARGET [libFuzzer options] [corpus folders]`; a crash leaves its input in a file.
"""

import base64
import contextlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["model_api.repository", "model_api.tasks.text", "model_api.web.server"]):
    from model_api.errors import MalformedRequest, Refused
    from model_api.repository.bounded_json import BadJson, parse_json
    from model_api.repository.checksums import format_sums, parse_sums
    from model_api.repository.generation import Generation
    from model_api.repository.manifest import Manifest
    from model_api.repository.model_folder import check_files, infer_task_of
    from model_api.repository.refs import Refs
    from model_api.repository.safetensors_header import read_tensors
    from model_api.repository.statuses import read_statuses
    from model_api.tasks.text.character_map import worst_growth
    from model_api.tasks.text.tokenizer_fields import Elsewhere
    from model_api.tasks.text.tokenizer_kinds import check_document
    from model_api.web.json_bodies import parse_object
    from model_api.web.server.incoming import RequestReader
    from model_api.web.server.refusals import RequestRefused

FOLDER = Path(tempfile.mkdtemp(prefix="fuzzing-"))
MINIMAL = {"tokenizer.json": b"{}", "config.json": b'{"architectures":["BertModel"]}'}


def tokenizer(data: bytes) -> None:
    with contextlib.suppress(BadJson, Elsewhere, Refused):
        check_document(parse_json(data, 2**20, unique_names=True))


def safetensors(data: bytes) -> None:
    file = FOLDER / "model.safetensors"
    file.write_bytes(data)
    with contextlib.suppress(Refused):
        read_tensors(file, file.name)


def documents(data: bytes) -> None:
    """config.json and modules.json, with a zero byte between them."""
    config, _, modules = data.partition(b"\0")
    contents = {
        **MINIMAL,
        "config.json": config,
        "modules.json": modules,
        "model.safetensors": b"\x02" + bytes(7) + b"{}",
    }
    for name, content in contents.items():
        (FOLDER / name).write_bytes(content)
    files = {name: FOLDER / name for name in contents}
    with contextlib.suppress(Refused):
        check_files(files)
        infer_task_of(files)


def character_map(data: bytes) -> None:
    growth = worst_growth(base64.b64encode(data).decode())
    assert growth is None or growth >= 1.0


def manifest(data: bytes) -> None:
    with contextlib.suppress(Refused):
        Manifest.from_json(Manifest.from_json(data).to_json())


def refs(data: bytes) -> None:
    with contextlib.suppress(Refused):
        Refs.from_json(data)


def sums(data: bytes) -> None:
    with contextlib.suppress(Refused):
        listed = parse_sums(data)
        assert parse_sums(format_sums(listed.items()).encode()) == listed


def generation(data: bytes) -> None:
    with contextlib.suppress(Refused):
        known = Generation.from_json(data)
        changed = Generation.from_json(known.opened("m").closed().to_json().encode()).since(known.mark)
        assert changed is None or "m" in changed


def status(data: bytes) -> None:
    (FOLDER / "status.json").write_bytes(data)
    for said in read_statuses(FOLDER).values():
        said.state_of("m", "d" * 64)
        str(said).encode()


def requests(data: bytes) -> None:
    """What comes over a connection, in pieces: at each `|`."""
    reader = RequestReader(1 << 12, lambda request, n_bytes: True)
    with contextlib.suppress(RequestRefused):
        for piece in data.split(b"|"):
            reader.feed(piece)
    for request in reader.complete:
        environ = request.environ({})
        assert environ["PATH_INFO"].startswith("/")
        assert len(environ["wsgi.input"].read()) <= 1 << 12


def body(data: bytes) -> None:
    with contextlib.suppress(MalformedRequest):
        parse_object(data)


_ALL = (requests, body, tokenizer, safetensors, documents, character_map, manifest, refs, sums, generation, status)
TARGETS: Mapping[str, Callable[[bytes], None]] = {target.__name__: target for target in _ALL}

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
