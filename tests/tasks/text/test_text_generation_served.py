"""Text generation on the running server: texts, conversations, answers as they grow, turns, and hostile templates."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server
from tests.rigs.small_decoders import save_small_decoder
from tests.rigs.stores import new_store, published

pytestmark = pytest.mark.integration
HOSTILE = (
    "{% set text = messages[-1].content %}"
    "{% if text == 'loop' %}{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    "{% elif text == 'huge' %}{{ 'a' * 10000000000 }}"
    "{% elif text == 'stuck' %}{{ (text | length) ** (10 ** 8) }}"
    "{% elif text == 'no' %}{{ raise_exception('never no') }}"
    "{% else %}{{ text }}{% endif %}"
)
USER = [{"role": "user", "content": "was the film good?"}]
LONG: dict[str, Any] = {"max_new_tokens": 3000, "min_new_tokens": 3000}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("decoders")
    save_small_decoder(folder / "chat")
    save_small_decoder(folder / "slow", hidden_size=256, intermediate_size=512, num_hidden_layers=6, positions=4096)
    save_small_decoder(folder / "hostile", template=HOSTILE)
    return {name: folder / name for name in ("chat", "slow", "hostile")}


@pytest.fixture(scope="module")
def api(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    layout = new_store(folder / "efs")
    for name, path in folders.items():
        published(layout, path, name)
    with server(
        folder / "api", MODEL_API_EFS_ROOT=layout.root, MODEL_API_PRECISION="float32", MODEL_API_REQUEST_TIMEOUT_S=200
    ) as running:
        running.wait_until_ready()
        wait_until(
            lambda: {row["state"] for row in running.get("/models").json()["models"]} == {"serving"}, within_s=120
        )
        yield running


def ask(api: Server, model: str, inputs: Any, **parameters: Any) -> Any:
    response = api.post("/predict", {"model": model, "inputs": inputs, "parameters": parameters})
    assert response.status == 200, response.body
    return response.json()["predictions"]


class Streamed:
    """A streamed answer as its caller reads it."""

    def __init__(self, api: Server, model: str, inputs: Any, **parameters: Any) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=300)
        body = {"model": model, "inputs": inputs, "parameters": parameters, "stream": True}
        self._connection.request("POST", "/predict", json.dumps(body), {"Content-Type": "application/json"})
        self.response = self._connection.getresponse()

    def events(self) -> Iterator[tuple[str, Any]]:
        kind = ""
        while line := self.response.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)
                kind = ""
        self.leave()

    def leave(self) -> None:
        self.response.close()
        self._connection.close()


def by_transformers(folder: Path, messages: Any, new: int) -> str:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False, return_tensors="pt")
    made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new)
    return str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))


def test_a_conversation_goes_on_as_transformers_does(api: Server, folders: dict[str, Path]) -> None:
    wanted = by_transformers(folders["chat"], USER, 20)
    (alone,) = ask(api, "chat", USER, max_new_tokens=20)
    assert alone["text"] == wanted
    three = [*USER, {"role": "assistant", "content": "it was"}, {"role": "user", "content": "not bad?"}]
    several = ask(api, "chat", [USER, three, "a text"], max_new_tokens=20)
    assert several[0] == alone
    assert several[1]["text"] == by_transformers(folders["chat"], three, 20)
    assert several[2] == ask(api, "chat", "a text", max_new_tokens=20)[0]


def test_a_streamed_answer_is_the_answer(api: Server) -> None:
    for inputs in ("the film", ["the film"], USER, [USER]):
        streamed = Streamed(api, "chat", inputs, max_new_tokens=40)
        assert streamed.response.status == 200
        assert streamed.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert streamed.response.headers["X-Model"] == "chat"
        *parts, (kind, whole) = streamed.events()
        assert kind == "answer"
        assert all(kind == "" for kind, _ in parts)
        assert len(parts) > 1
        wanted = api.post("/predict", {"model": "chat", "inputs": inputs, "parameters": {"max_new_tokens": 40}}).json()
        assert whole == wanted
        assert "".join(part["text"] for _, part in parts) == wanted["predictions"][0]["text"]


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"inputs": ["a", "b"]}, 422, "/inputs"),
        ({"inputs": [5]}, 422, "/inputs/0"),
        ({"inputs": 5}, 422, "/inputs"),
        ({"inputs": [{"role": "user", "content": 5}]}, 422, "/inputs/0/content"),
        ({"inputs": [[{"role": "user", "content": 5}]]}, 422, "/inputs/0/0/content"),
        ({"inputs": "x", "parameters": {"top_p": 2, "temperature": 1}}, 422, "/parameters/top_p"),
        ({"inputs": "x", "stream": "yes"}, 422, "/stream"),
        ({"inputs": [{"role": "assistant", "content": "x"}]}, 422, "/inputs"),
    ],
)
def test_what_cant_be_streamed_has_its_status(api: Server, body: Any, status: int, pointer: str) -> None:
    response = api.post("/predict", {"model": "chat", "stream": True, **body})
    assert (response.status, response.json()["errors"][0]["pointer"]) == (status, pointer)


def test_who_leaves_ends_the_generation_and_no_process(api: Server) -> None:
    lanes = sorted(api.pids_by_role()["lane"])
    streamed = Streamed(api, "slow", "the film", **LONG)
    assert next(streamed.events())[1]["text"]
    streamed.leave()
    began = time.monotonic()
    assert ask(api, "slow", "the day", max_new_tokens=2)[0]["tokens"] == 2
    assert time.monotonic() - began < 60
    assert sorted(api.pids_by_role()["lane"]) == lanes


def test_a_short_request_does_not_wait_for_a_long_one(api: Server) -> None:
    streamed = Streamed(api, "slow", "the film", **LONG)
    events = streamed.events()
    assert next(events)[1]["text"]
    assert ask(api, "slow", "the day", max_new_tokens=2)[0]["tokens"] == 2
    assert ask(api, "chat", "the day", max_new_tokens=2)[0]["tokens"] == 2
    kind, after = next(events)
    assert (kind, set(after)) == ("", {"text"})  # it goes on where it was
    streamed.leave()


def test_two_long_answers_take_turns_and_come_out_whole(api: Server) -> None:
    how: dict[str, Any] = {"max_new_tokens": 150, "min_new_tokens": 150}
    wanted = [ask(api, "slow", text, **how)[0] for text in ("the film", "not a day")]
    with ThreadPoolExecutor(2) as callers:

        def whole(text: str) -> tuple[str, Any]:
            *parts, (_, answer) = Streamed(api, "slow", text, **how).events()
            return "".join(part["text"] for _, part in parts), answer["predictions"][0]

        found = list(callers.map(whole, ("the film", "not a day")))
    assert found == [(one["text"], one) for one in wanted]


@pytest.mark.parametrize(("text", "told"), [("loop", "2 s|too long"), ("huge", "too much"), ("stuck", "2 s|too long")])
def test_a_hostile_template_hurts_nobody(api: Server, text: str, told: str) -> None:
    with ThreadPoolExecutor(1) as callers:
        body = {"model": "hostile", "inputs": [[{"role": "user", "content": text}]]}
        hostile = callers.submit(api.post, "/predict", body)
        assert ask(api, "chat", USER, max_new_tokens=3)[0]["tokens"] == 3
        refused = hostile.result()
    assert (refused.status, refused.json()["type"]) == (500, "/problems/forward-failed")
    assert re.search(told, refused.json()["detail"]), refused.json()
    wait_until(lambda: api.post("/predict", {**body, "inputs": [USER]}).status == 200, within_s=30)


def test_what_a_template_refuses_is_the_callers_to_mend(api: Server) -> None:
    refused = api.post("/predict", {"model": "hostile", "inputs": [[{"role": "user", "content": "no"}]]})
    assert (refused.status, refused.json()["errors"][0]["pointer"]) == (422, "/inputs/0")
    assert "never no" in refused.json()["detail"]
