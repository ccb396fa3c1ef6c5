"""Whatever is wrong with a request of another's protocol is told in that protocol's words, and never as a 500."""

import json
import struct
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_api.errors import ForwardFailed, ModelNotReady, QueueFull
from model_api.web.protocols.spoken import DIALECTS
from tests.rigs.stand_in_service import StandInService, stand_in_app

TEXT = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a cat"]}
# A route of each dialect, with a body that it takes, and the key that its errors have.
ROUTES: dict[str, tuple[Any, str]] = {
    "/v2/models/minilm/infer": ({"inputs": [TEXT]}, "error"),
    "/hf/minilm": ({"inputs": "a cat"}, "error"),
    "/tei/minilm/embed": ({"inputs": "a cat", "normalize": None}, "error"),
    "/invocations": ({"instances": ["a cat"]}, "message"),
    "/endpoints/minilm/invocations": ({"instances": ["a cat"]}, "Message"),
    "/article/summarize": ({"article": "a cat"}, "detail"),
}


@pytest.fixture
def made() -> tuple[FlaskClient, StandInService]:
    app, service = stand_in_app()
    return app.test_client(), service


@pytest.fixture
def client(made: tuple[FlaskClient, StandInService]) -> FlaskClient:
    return made[0]


def test_each_dialect_has_a_route_here() -> None:
    for dialect in DIALECTS:
        assert any(path.startswith(prefix) for path in ROUTES for prefix in dialect.prefixes)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"", "application/json"),
        (b"[1]", "application/json"),
        (b'"text"', "application/json"),
        (b"{}", "application/json"),
        (b'{"inputs": null}', "application/json"),
        (b'{"inputs": 3, "instances": 3, "article": 3}', "application/json"),
        (b'{"inputs": [[1, 2]]}', "application/json"),
        (b'{"nonsense": 1, "inputs": [""]}', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100, "application/json"),
        (b"x", "application/x-npy"),
        (b"{}", "application/json; charset=utf-16"),
    ],
)
def test_bad_bodies_are_told_in_its_words(client: FlaskClient, path: str, body: bytes, kind: str) -> None:
    response = client.post(path, data=body, content_type=kind)
    assert 400 <= response.status_code < 500
    told = response.get_json()
    assert told[ROUTES[path][1]]
    assert response.mimetype == "application/json"
    assert "instance" not in told
    assert response.headers["X-Request-Id"]


@pytest.mark.parametrize("path", [path for path in ROUTES if path != "/article/summarize"])
@pytest.mark.parametrize(
    "error", [QueueFull("too much"), ModelNotReady("minilm", "loading"), ForwardFailed("it failed")]
)
def test_what_the_server_is_to_blame_for(made: tuple[FlaskClient, StandInService], path: str, error: Exception) -> None:
    client, service = made
    service.fail_with = error
    body, key = ROUTES[path]
    response = client.post(path, json=body)
    assert response.status_code >= 424
    assert str(error) in response.get_json()[key]
    if isinstance(error, QueueFull):
        assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("path", "method"),
    [("/v2/nowhere", "get"), ("/hf/", "post"), ("/tei/minilm/nothing", "post"), ("/invocations", "get")],
)
def test_a_route_that_isn_t_there_or_takes_another_method(client: FlaskClient, path: str, method: str) -> None:
    response = getattr(client, method)(path)
    assert response.status_code in (404, 405)
    assert "error" in response.get_json() or "error_code" in response.get_json()


def packed(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def infer(client: FlaskClient, tensor: dict[str, Any], tail: bytes = b"", **more: Any) -> Any:
    head = json.dumps({"inputs": [{**TEXT, **tensor}], **more.pop("body", {})}).encode()
    headers = {"Inference-Header-Content-Length": more.pop("length", str(len(head)))}
    return client.post("/v2/models/minilm/infer", data=head + tail, headers=headers)


def binary(size: Any, **more: Any) -> dict[str, Any]:
    return {"data": None, "parameters": {"binary_data_size": size}, **more}


def test_a_binary_tensor_without_a_content_type(client: FlaskClient) -> None:
    data = packed(b"a cat", "Fuß".encode())
    response = infer(client, binary(len(data), shape=[2, 1]), data, body={"parameters": {"binary_data_output": True}})
    assert response.status_code == 200, response.data
    length = int(response.headers["Inference-Header-Content-Length"])
    (output,) = json.loads(response.data[:length])["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [2, 2])
    assert output["parameters"] == {"binary_data_size": 16}
    assert struct.unpack("<4f", response.data[length:]) == (5, 4, 3, 3)


@pytest.mark.parametrize(
    ("tensor", "tail", "length", "said"),
    [
        (binary(9), packed(b"a cat"), "0", "Content-Length"),
        (binary(9), packed(b"a cat"), "99999", "Content-Length"),
        (binary(9), packed(b"a cat"), "-1", "Content-Length"),
        (binary(9), packed(b"a cat"), "1e3", "Content-Length"),
        (binary(10), packed(b"a cat"), None, "9 bytes are left"),
        (binary(8), packed(b"a cat"), None, "goes beyond its end"),
        (binary(9), packed(b"a cat") + b"more", None, "belong to no input"),
        (binary(-1), packed(b"a cat"), None, "bytes are left"),
        (binary(True), packed(b"a cat"), None, "bytes are left"),
        (binary("9"), packed(b"a cat"), None, "bytes are left"),
        (binary(9, shape=[2]), packed(b"a cat"), None, "the 2 elements"),
        (binary(9, data=["a cat"]), packed(b"a cat"), None, "either data, or"),
        ({"data": None}, b"", None, "either data, or"),
        (binary(18), packed(b"a cat") * 2, None, "the 1 elements"),
        (binary(2), b"\1\0", None, "the 1 elements"),
        (binary(8), b"\xff\xff\xff\xffabcd", None, "goes beyond its end"),
        ({"shape": [1, 2], "data": ["a", "b"]}, b"", None, "a text per row"),
        ({"shape": [0]}, b"", None, "above 0"),
        ({"shape": [True]}, b"", None, "above 0"),
        ({"shape": [2**62, 2**62]}, b"", None, "more than the 1000"),
        ({"shape": [1] * 9}, b"", None, "at most 8"),
        ({"data": [1]}, b"", None, "must hold texts"),
        ({"data": [["a", "b"]]}, b"", None, "holds 2 elements"),
        ({"datatype": "STRING"}, b"", None, "no such datatype"),
        ({"datatype": "FP16"}, b"", None, "BYTES is wanted"),
        ({"name": None}, b"", None, "is missing"),
        ({"nonsense": 1}, b"", None, "no such field"),
    ],
)
def test_tensors_that_don_t_fit_are_told_which_and_how(
    client: FlaskClient, tensor: dict[str, Any], tail: bytes, length: str | None, said: str
) -> None:
    response = infer(client, tensor, tail, **({} if length is None else {"length": length}))
    assert response.status_code == 400
    assert said in response.get_json()["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"dataframe_split": {"columns": ["a"], "data": [["x", "y"]]}}, "as there are columns"),
        ({"dataframe_split": {"columns": [], "data": []}}, "one at least"),
        ({"dataframe_split": {"columns": ["a"]}}, "is missing"),
        ({"dataframe_split": [1]}, "must be an object"),
        ({"dataframe_records": [1]}, "list of objects"),
        ({"dataframe_records": []}, "no row"),
        ({"inputs": {"a": ["x"], "b": []}}, "equally long"),
        ({"inputs": {}}, "equally long"),
        ({"instances": ["x"] * 1001}, "at most 1000"),
        ({"instances": ["x"], "inputs": ["x"]}, "2 are there"),
        ({"instances": ["x"], "params": [1]}, "must be an object"),
        ({"instances": ["x"], "nonsense": 1}, "no such field"),
        ({"articles": [1]}, "token ids"),
        ({"articles": 1}, "list of texts"),
    ],
)
def test_forms_of_invocations_that_don_t_fit(client: FlaskClient, body: dict[str, Any], said: str) -> None:
    response = client.post("/invocations", json=body)
    assert response.status_code == 400
    assert (response.get_json()["error_code"], said in response.get_json()["message"]) == ("BAD_REQUEST", True)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (b"", "empty"),
        (b"text\n", "no row"),
        (b"text\na,b\n", "row 1 has 2 values"),
        (b'text\n"a', "can't be read"),
        (b"text\n\xe9\n", "not UTF-8"),
    ],
)
def test_tables_that_don_t_fit(client: FlaskClient, table: bytes, said: str) -> None:
    response = client.post("/invocations", data=table, content_type="text/csv")
    assert response.status_code == 400
    assert said in response.get_json()["message"]


def test_a_table_as_windows_writes_it(client: FlaskClient) -> None:
    response = client.post(
        "/invocations", data=b"\xef\xbb\xbftext\r\na cat\r\n\r\n", content_type="text/csv; charset=utf-8"
    )
    assert response.get_json() == {"predictions": [[5, 4]]}


def test_which_model_where_the_address_names_none() -> None:
    body = {"instances": ["a cat"]}
    client = stand_in_app(protocol_model="nobody")[0].test_client()
    assert client.post("/invocations", json=body).status_code == 200  # the only one that there is
    assert client.post("/invocations", json=body, headers={"X-Model": "other"}).status_code == 404
    assert client.post("/invocations", json=body, headers={"X-Model": "../x"}).status_code == 404
    told = client.post("/article/summarize", json={"article": "a"}).get_json()
    assert "none is served" in str(told)
