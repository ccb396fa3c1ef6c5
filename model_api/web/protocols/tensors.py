"""Tensors of the Open Inference Protocol: as JSON, and as a binary tail behind it."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from model_api.errors import InvalidInput
from model_api.web.protocols.dialect import Fields

BYTES, FP32 = "BYTES", "FP32"
DATATYPES = frozenset(
    {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"}
    | {"FP16", "FP32", "FP64", "BF16", BYTES}
)
_LENGTH_BYTES = 4
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class TextTensor:
    """A BYTES tensor of UTF-8 texts; `place` is where it stands in the body."""

    name: str
    shape: tuple[int, ...]
    texts: list[str]
    place: str


def split_body(body: bytes, json_length: str | None) -> tuple[bytes, memoryview]:
    """The JSON and the tail behind it. Raises InvalidInput for a length that isn't one of this body."""
    if json_length is None:
        return body, memoryview(b"")
    if not json_length.isdecimal() or not 0 < int(json_length) <= len(body):
        raise InvalidInput(
            f"Inference-Header-Content-Length must be 1 to {len(body)}, the body's length, not {json_length[:20]!r}"
        )
    return body[: int(json_length)], memoryview(body)[int(json_length) :]


def read_inputs(given: Any, tail: memoryview, max_elements: int) -> list[TextTensor]:
    """The inputs of a request, whose binary data follow one another in the tail. Raises InvalidInput."""
    if not isinstance(given, list) or not given:
        raise InvalidInput("must be a list of one tensor at least", "/inputs")
    found, at = [], 0
    for i, one in enumerate(given):
        place = f"/inputs/{i}"
        fields = Fields(one, place)
        name = fields.need("name", str)
        shape = _shape(fields.need("shape", list), f"{place}/shape", max_elements)
        datatype = fields.need("datatype", str)
        parameters = fields.take("parameters", dict, {})
        data = fields.take("data", (list, str))
        fields.end()
        if datatype not in DATATYPES:
            raise InvalidInput(f"no such datatype; there are {', '.join(sorted(DATATYPES))}", f"{place}/datatype")
        if datatype != BYTES:
            raise InvalidInput(f"input {name!r} holds texts: BYTES is wanted, not {datatype}", f"{place}/datatype")
        number = int(np.prod(shape)) if shape else 1
        size = parameters.get("binary_data_size")
        if (size is None) == (data is None):
            raise InvalidInput("wants either data, or binary_data_size and as many bytes behind the JSON", place)
        if size is None:
            texts = _flat(data, number, f"{place}/data")
        else:
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(tail) - at:
                left = len(tail) - at
                raise InvalidInput(f"input {name!r}: {left} bytes are left behind the JSON, not {size!r}", place)
            texts = _unpack(tail[at : at + size], number, name, place)
            at += size
        found.append(TextTensor(name, shape, texts, place))
    if at != len(tail):
        raise InvalidInput(f"{len(tail) - at} bytes behind the JSON belong to no input", "/inputs")
    return found


def _shape(given: Sequence[Any], place: str, max_elements: int) -> tuple[int, ...]:
    if len(given) > _MAX_DIMENSIONS or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in given):
        raise InvalidInput(f"must be at most {_MAX_DIMENSIONS} whole numbers above 0", place)
    number = 1
    for size in given:
        number *= size
        if number > max_elements:
            raise InvalidInput(f"holds more than the {max_elements} elements that are accepted", place)
    return tuple(given)


def _flat(data: Any, number: int, place: str) -> list[str]:
    """The texts of JSON data, which may be nested as its shape is, or flat."""
    texts: list[str] = []
    left = [data]
    while left:
        one = left.pop()
        if isinstance(one, list):
            left += reversed(one)
        elif isinstance(one, str):
            texts.append(one)
        else:
            raise InvalidInput(f"must hold texts, as BYTES are, not {type(one).__name__}", place)
    if len(texts) != number:
        raise InvalidInput(f"holds {len(texts)} elements, its shape wants {number}", place)
    return texts


def _unpack(data: memoryview, number: int, name: str, place: str) -> list[str]:
    """Each element is its length, 4 bytes in little-endian order, and its bytes."""
    texts: list[str] = []
    at = 0
    while at < len(data):
        if len(texts) == number or at + _LENGTH_BYTES > len(data):
            break
        (size,) = struct.unpack_from("<I", data, at)
        at += _LENGTH_BYTES
        if size > len(data) - at:
            raise InvalidInput(f"input {name!r}: element {len(texts)}, {size} bytes, goes beyond its end", place)
        try:
            texts.append(bytes(data[at : at + size]).decode())
        except UnicodeDecodeError:
            raise InvalidInput(f"input {name!r}: element {len(texts)} is not UTF-8", place) from None
        at += size
    if at != len(data) or len(texts) != number:
        raise InvalidInput(f"input {name!r}: {len(data)} bytes don't hold the {number} elements of its shape", place)
    return texts


@dataclass(frozen=True)
class OutputTensor:
    """What a model gave: float32 numbers, or texts."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Any

    def binary(self) -> bytes:
        if self.datatype == FP32:
            return np.ascontiguousarray(self.data, "<f4").tobytes()
        parts = [text.encode() for text in self.data]
        return b"".join(struct.pack("<I", len(part)) + part for part in parts)

    def document(self) -> dict[str, Any]:
        flat = np.asarray(self.data, np.float32).ravel() if self.datatype == FP32 else self.data
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape), "data": flat}


def outputs_of(task: str, predictions: Sequence[Any]) -> list[OutputTensor]:
    """Predictions as tensors: vectors, labels with scores, scores of a query's texts; else JSON, a text each."""
    n = len(predictions)
    if task == "embedding":
        vectors = np.asarray(predictions, np.float32)
        return [OutputTensor("embedding", FP32, vectors.shape, vectors)]
    if task == "text-classification":
        scores = np.asarray([one["score"] for one in predictions], np.float32)
        labels = [one["label"] for one in predictions]
        return [OutputTensor("label", BYTES, (n,), labels), OutputTensor("score", FP32, (n,), scores)]
    if task == "reranking":
        scores = np.asarray(predictions[0]["scores"], np.float32)
        return [OutputTensor("score", FP32, scores.shape, scores)]
    return [OutputTensor("prediction", BYTES, (n,), [_text(one) for one in predictions])]


def metadata_of(task: str) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Inputs and outputs of a task, -1 where a size is the request's or the model's."""

    def tensor(name: str, datatype: str, *shape: int) -> Mapping[str, Any]:
        return {"name": name, "datatype": datatype, "shape": list(shape)}

    texts = [tensor("text", BYTES, -1)]
    if task == "embedding":
        return texts, [tensor("embedding", FP32, -1, -1)]
    if task == "text-classification":
        return texts, [tensor("label", BYTES, -1), tensor("score", FP32, -1)]
    if task == "reranking":
        return [tensor("query", BYTES, 1), tensor("texts", BYTES, -1)], [tensor("score", FP32, -1)]
    return texts, [tensor("prediction", BYTES, -1)]


def _text(prediction: Any) -> str:
    if isinstance(prediction, dict) and isinstance(prediction.get("text"), str):
        return str(prediction["text"])
    return orjson.dumps(prediction, option=orjson.OPT_SERIALIZE_NUMPY).decode()
