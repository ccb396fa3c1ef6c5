"""OpenAI's own client, unmodified: chat completions and completions, whole and as they grow."""

import json
import subprocess
from typing import Any

import pytest

from scripts.rehearsal.upload import DEPLOY_BIN
from tests.needs import missing
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server
from tests.rigs.small_decoders import save_small_decoder
from tests.rigs.stores import new_store, published

pytestmark = pytest.mark.integration
USER = [{"role": "user", "content": "was the film good?"}]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("openai")
    layout = new_store(folder / "efs")
    save_small_decoder(folder / "model")
    published(layout, folder / "model", "chat")
    settings = {"MODEL_API_PRECISION": "float32", "MODEL_API_REQUEST_TIMEOUT_S": 200}
    with server(folder / "server", MODEL_API_EFS_ROOT=layout.root, **settings) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def told(api: Server) -> dict[str, Any]:
    if not list(DEPLOY_BIN.parent.glob("lib/*/site-packages/openai")):
        missing("scripts/setup-deploy --dev has not been run")
    command = [str(DEPLOY_BIN / "python"), "-m", "tests.clients.openai_chat_driver", api.url, "chat"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def predicted(api: Server, inputs: Any, **parameters: Any) -> Any:
    return api.post("/predict", {"model": "chat", "inputs": inputs, "parameters": parameters}).json()


def test_a_chat_is_answered_whole(api: Server, told: dict[str, Any]) -> None:
    whole, own = told["chat"]["whole"], predicted(api, USER, max_new_tokens=30)
    (choice,) = whole["choices"]
    assert choice["message"]["content"] == own["predictions"][0]["text"]
    assert (choice["message"]["role"], choice["finish_reason"]) == ("assistant", own["predictions"][0]["finish_reason"])
    n_prompt, n_new = own["usage"]["tokens"], own["predictions"][0]["tokens"]
    assert {key: whole["usage"][key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")} == {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_new,
        "total_tokens": n_prompt + n_new,
    }
    assert (whole["object"], whole["model"], told["models"]) == ("chat.completion", "chat", ["chat"])
    assert told["chat"]["in_parts"] == choice["message"]["content"]


def test_a_chat_is_answered_as_it_grows(told: dict[str, Any]) -> None:
    *chunks, last = told["chat"]["chunks"]
    assert last["choices"] == []
    assert last["usage"] == told["chat"]["whole"]["usage"]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    assert "".join(d["content"] or "" for d in deltas) == told["chat"]["whole"]["choices"][0]["message"]["content"]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + [told["chat"]["whole"]["choices"][0]["finish_reason"]]
    assert len({chunk["id"] for chunk in told["chat"]["chunks"]}) == 1


def test_seeds_and_leaving(told: dict[str, Any]) -> None:
    first, again, other = told["chat"]["sampled"]
    assert first == again != other
    assert told["chat"]["after_leaving"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    ("which", "kind", "param"),
    [
        ("empty", "BadRequestError", "messages"),
        ("role", "BadRequestError", "messages.0.role"),
        ("template", "BadRequestError", "messages"),
        ("image", "BadRequestError", "messages.0.content.0"),
        ("tools", "BadRequestError", "tools"),
        ("n", "BadRequestError", "n"),
        ("temperature", "BadRequestError", "temperature"),
        ("max_tokens", "BadRequestError", "max_tokens"),
        ("model", "NotFoundError", None),
    ],
)
def test_refusals_have_openai_s_shape(told: dict[str, Any], which: str, kind: str, param: str | None) -> None:
    found = told["chat"]["refused"][which]
    assert (found["class"], found["param"]) == (kind, param), found


def test_completions(api: Server, told: dict[str, Any]) -> None:
    found = told["completions"]
    own = predicted(api, ["the film", "not a day"], max_new_tokens=20)["predictions"]
    assert [choice["text"] for choice in found["whole"]["choices"]] == [one["text"] for one in own]
    assert [choice["index"] for choice in found["whole"]["choices"]] == [0, 1]
    assert (found["streamed"], found["reason"]) == (own[0]["text"], own[0]["finish_reason"])
    assert found["default"]["completion_tokens"] <= 16
    assert found["stopped"]["choices"][0]["finish_reason"] == "stop"
    assert (found["tokens"]["class"], found["tokens"]["param"]) == ("BadRequestError", "prompt")
    assert (found["second"]["class"], found["second"]["param"]) == ("BadRequestError", "prompt.1")
