"""Text generation as a lane has it: samples, stop strings, pauses. The ids of each family are the catalogue's."""

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_api.errors import InvalidInput, Refused
from model_api.processes import messages
from model_api.processes.encoding_process import EncodingProcess
from model_api.repository.manifest import FileEntry, Manifest
from model_api.tasks.contract import Limits
from model_api.tasks.text.text_generation import SEEDED_TOKENS, TASK, checked_type
from tests.rigs.leader import Leader
from tests.rigs.small_decoders import save_small_decoder

LIMITS = Limits(max_text_chars=2000)
TEXT = "The film was very"
ENGINES = ["ctranslate2", "transformers"]


def manifest(**options: Any) -> Manifest:
    return Manifest("m", "1", "text-generation", (FileEntry("config.json", 1, "0" * 64),), 1, options)


class InLane:
    """The model as a lane has it, after a leader's checks."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.leader = Leader(folder, manifest(precision="float32", **options))
        self.web = TASK.open_web(folder, manifest(**options), LIMITS)

    def ask(self, *texts: str, **parameters: Any) -> list[Any]:
        prepared = self.web.prepare(texts, parameters)
        return self.web.finish(prepared, self.leader.forward(prepared.arrays, prepared.parameters))

    def listened(self, text: str, *, interrupt: bool = False, **parameters: Any) -> tuple[list[str], list[Any], int]:
        """The pieces, the prediction, and how often it was interrupted: each time as soon as it lets itself be."""
        prepared = self.web.prepare([text], parameters)
        arrays, pieces, end, interruptions = list(prepared.arrays), [], 0, 0
        connection = self.leader.connection
        while True:
            order = messages.pack({"parameters": prepared.parameters, "tells": True}, arrays)
            connection.sendall(order + (messages.pack({"leave": "others"}) if interrupt else b""))
            while "part" in (message := messages.receive(connection))[0]:
                assert message[0]["begin"] == end
                end += len(message[0]["part"])
                pieces.append(message[0]["part"])
            assert "error" not in message[0], message
            if message[0]["finished"]:
                return pieces, self.web.finish(prepared, message[1]), interruptions
            arrays, interruptions = message[1], interruptions + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    save_small_decoder(folder, template=None)
    return folder


@pytest.fixture(scope="module", params=ENGINES)
def lane(request: pytest.FixtureRequest, folder: Path) -> Any:
    made = InLane(folder, engine=request.param)
    with made.leader:
        yield made


def test_a_sample_with_a_seed_can_be_had_again(lane: InLane) -> None:
    how: dict[str, Any] = {"temperature": 1.5, "seed": 5, "max_new_tokens": SEEDED_TOKENS + 20}
    first = lane.ask(TEXT, **how)
    assert lane.ask("the", TEXT, **how)[1:] == lane.ask(TEXT, **how) == first
    assert lane.ask(TEXT, **{**how, "seed": 6}) != first
    assert len({str(lane.ask(TEXT, temperature=1.5, max_new_tokens=9)) for _ in range(4)}) > 1


def test_what_is_sampled_is_among_the_likeliest(lane: InLane) -> None:
    greedy = lane.ask(TEXT, max_new_tokens=12)
    assert lane.ask(TEXT, temperature=2.0, top_k=1, max_new_tokens=12) == greedy
    assert lane.ask(TEXT, temperature=2.0, top_p=1e-6, max_new_tokens=12) == greedy


def test_the_pieces_are_the_answer_however_often_it_is_interrupted(lane: InLane) -> None:
    hows: list[dict[str, Any]] = [{}, {"temperature": 1.5, "seed": 3}]
    for how in hows:
        (wanted,) = lane.ask(TEXT, max_new_tokens=80, **how)
        pieces, (got,), _ = lane.listened(TEXT, max_new_tokens=80, **how)
        assert "".join(pieces) == got["text"]
        assert got == wanted
        paused, (again,), interruptions = lane.listened(TEXT, interrupt=True, max_new_tokens=80, **how)
        assert interruptions >= 1
        assert "".join(paused) == again["text"]
        assert again == wanted


def test_a_stop_string_ends_it_across_tokens_and_is_left_out(lane: InLane) -> None:
    (whole,) = lane.ask(TEXT, max_new_tokens=60)
    text = whole["text"]
    stop = next(
        text[at : at + 3] for at in range(5, len(text)) if text.find(text[at : at + 3]) == at and len(text) > at + 3
    )
    (got,) = lane.ask(TEXT, max_new_tokens=60, stop=[stop, "never there"])
    assert got["text"] == text[: text.index(stop)]
    assert got["finish_reason"] == "stop"
    assert got["tokens"] < whole["tokens"]
    pieces, (told,), _ = lane.listened(TEXT, max_new_tokens=60, stop=stop)
    assert told == got
    assert "".join(pieces) == got["text"]


def test_nobody_waits_any_more(lane: InLane) -> None:
    prepared = lane.web.prepare([TEXT], {"max_new_tokens": 200, "temperature": 1.0, "seed": 1})
    connection = lane.leader.connection
    messages.send(connection, {"parameters": prepared.parameters, "tells": True}, prepared.arrays)
    assert "part" in messages.receive(connection)[0]
    messages.send(connection, {"leave": "nobody"})
    while "part" in (message := messages.receive(connection))[0]:
        pass
    assert message[0] == {"finished": False}
    messages.send(connection, {"leave": "others"})  # too late for that one
    assert lane.ask(TEXT, max_new_tokens=3)[0]["tokens"] == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_is_refused_and_the_lane_lives(folder: Path, tmp_path: Path, engine: str) -> None:
    from safetensors.torch import load_file, save_file

    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    held = {name: tensor.clone() for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    web = TASK.open_web(tmp_path, manifest(), LIMITS)
    poisoned = web.prepare(["!"], {}).arrays[0][1]
    held["model.embed_tokens.weight"][poisoned] = float("nan")
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    lane = InLane(tmp_path, engine=engine)
    with lane.leader:
        prepared = lane.web.prepare(["!"], {"max_new_tokens": 3})
        messages.send(lane.leader.connection, {"parameters": prepared.parameters}, prepared.arrays)
        assert "FloatingPointError" in messages.receive(lane.leader.connection)[0]["error"]
        assert lane.ask("the", max_new_tokens=3)[0]["tokens"] == 3


@pytest.mark.parametrize(
    ("inputs", "parameters", "pointer", "told"),
    [
        ([5], {}, "/inputs/0", "must be a string"),
        ([""], {}, "/inputs/0", "empty"),
        (["x " * 600], {}, "/inputs/0", "tokens, the model takes 255 and what follows"),
        (["x"], {"temperature": 9}, "/parameters/temperature", "between 0 and 5"),
        (["x"], {"top_p": 0.5}, "/parameters/top_p", "give temperature too"),
        (["x"], {"temperature": 1, "num_beams": 2}, "/parameters/num_beams", "num_beams 1 only"),
        (["x"], {"stop": ""}, "/parameters/stop", "stop"),
        (["x"], {"stop": ["a"] * 9}, "/parameters/stop", "stop"),
        (["x"], {"max_new_tokens": 5000}, "/parameters/max_new_tokens", "between 1 and 4096"),
        (["x"], {"min_new_tokens": 9, "max_new_tokens": 3}, "/parameters/min_new_tokens", "more than"),
        (["x"], {"tempreature": 1}, "/parameters/tempreature", "unknown parameter"),
        ([{"role": "user", "content": "x"}], {}, "/inputs", "no chat template"),
        ([[{"role": "user", "content": "x"}]], {}, "/inputs/0", "no chat template"),
        ([[{"role": "boss", "content": "x"}]], {}, "/inputs/0/0/role", "system, user, assistant"),
        ([[{"role": "user", "content": 5}]], {}, "/inputs/0/0/content", "must be a string"),
        ([[{"role": "user", "content": "x", "n": 1}]], {}, "/inputs/0/0", "unknown key 'n'"),
        ([[{"role": "user", "content": "x" * 2001}]], {}, "/inputs/0/0/content", "at most 2000"),
        ([[]], {}, "/inputs/0", "one message at least"),
    ],
)
def test_bad_input(folder: Path, inputs: list[Any], parameters: dict[str, Any], pointer: str, told: str) -> None:
    web = TASK.open_web(folder, manifest(), LIMITS)
    with pytest.raises(InvalidInput, match=told) as caught:
        web.prepare(inputs, parameters)
    assert caught.value.pointer == pointer


def test_a_models_own_defaults_hold_and_can_be_changed(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    own = {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "max_new_tokens": 50_000,
        "eos_token_id": [2, 3],
    }
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    web = TASK.open_web(tmp_path, manifest(), LIMITS)
    found = web.prepare(["x"], {}).parameters
    assert {key: found[key] for key in ("temperature", "top_p", "top_k", "max_new_tokens", "end_ids")} == {
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "max_new_tokens": 4096,
        "end_ids": [2, 3],
    }
    assert not web.repeatable({})
    assert web.repeatable({"seed": 1})
    assert web.repeatable({"temperature": 0})
    greedy = TASK.open_web(tmp_path, manifest(generation={"temperature": 0, "stop": ["\n"]}), LIMITS)
    assert greedy.prepare(["x"], {}).parameters["stop"] == ["\n"]
    assert greedy.repeatable({})
    with pytest.raises(Refused, match="num_beams must be between"):
        TASK.open_web(tmp_path, manifest(generation={"num_beams": 99}), LIMITS)
    (tmp_path / "generation_config.json").write_text(json.dumps({**own, "guidance_scale": 3.0}))
    with pytest.raises(Refused, match=r"generation_config\.json: guidance_scale 3\.0 is not served"):
        TASK.open_web(tmp_path, manifest(), LIMITS)


def test_the_end_of_what_is_too_long_is_kept_on_request(folder: Path) -> None:
    web = TASK.open_web(folder, manifest(), LIMITS)
    whole = web.prepare(["x " * 60], {}).arrays[0]
    prepared = web.prepare(["x " * 600], {"truncate": True, "max_new_tokens": 100})
    assert list(prepared.truncated) == [0]
    assert len(prepared.arrays[0]) == 1 + 156
    assert np.array_equal(prepared.arrays[0][-20:], whole[-20:])


def test_an_encoding_process_tells_what_a_template_said() -> None:
    ours, theirs = socket.socketpair()
    process = EncodingProcess(kill=lambda: None)
    process.connect(ours)
    with theirs:
        messages.send(theirs, {"refused": "roles must alternate"})
        with pytest.raises(InvalidInput, match="alternate"):
            process.encode_chat([{"role": "user", "content": "x"}])
    process.close()


def test_a_manifest_without_a_precision_leaves_it_to_the_instance() -> None:
    for options in ({}, {"precision": None}):
        assert checked_type(manifest(**options), "auto") == "int8"
        assert checked_type(manifest(**options), "float32") == "float32"
    with pytest.raises(Refused, match="'int4' is not served"):
        checked_type(manifest(precision="int4"), "auto")
