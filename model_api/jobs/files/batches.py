"""OpenAI's batch files: a request per line in, a response per line out. Another form of table for `run`.

The whole file is read before anything is computed, so a file that is no batch fails as a whole, with its line.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import orjson

from model_api.errors import InvalidInput
from model_api.jobs.files.predictors import RowRefused, ServiceAsker
from model_api.jobs.files.tables import BadTable, JsonLinesReader, Row
from model_api.serving.calls import CallContext
from model_api.serving.documents import dump
from model_api.serving.openai_embeddings import ENDPOINT, PARAMETERS, EmbeddingsCall

BATCH = "batch"
BODY = "body"  # the column
MAX_REQUESTS = 50_000  # of a file, as OpenAI has it
SUCCEEDED, REFUSED = 200, 400


class BatchReader(JsonLinesReader):
    """Rows are {"custom_id", "body"}. Raises BadTable at the first line that is no request of this batch."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.model: str | None = None  # known from the first line on

    def __iter__(self) -> Iterator[Row]:
        seen: set[bytes] = set()
        for number, row in enumerate(super().__iter__(), 1):
            if number > MAX_REQUESTS:
                raise BadTable(f"more than {MAX_REQUESTS} requests")
            if fault := row.fault or self._fault(row.values, seen):
                raise BadTable(fault if row.fault else f"request {number}: {fault}")
            yield Row({"custom_id": row.values["custom_id"], BODY: row.values["body"]})
        if not seen:
            raise BadTable("holds no request")

    def _fault(self, request: Mapping[str, Any], seen: set[bytes]) -> str | None:
        custom_id, body = request.get("custom_id"), request.get("body")
        if not isinstance(custom_id, str) or not custom_id:
            return "custom_id must be a text"
        digest = hashlib.blake2b(custom_id.encode("utf-8", "replace"), digest_size=16).digest()
        if digest in seen:
            return f"custom_id {custom_id[:64]!r} is there twice"
        seen.add(digest)
        if request.get("method") != "POST" or request.get("url") != ENDPOINT:
            return f"method and url must be POST and {ENDPOINT}"
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            return "body must be an object with a model"
        if self.model is None:
            self.model = body["model"]
        if body["model"] != self.model:
            return f"all requests of a file must name one model, and the first names {self.model[:64]!r}"
        return None

    def rendered(self, row: Row, prediction: Any, error: str | None) -> bytes:
        """The line of the result: of the output file, or, with another status than 200, of the error file."""
        custom_id = row.values["custom_id"]
        name = hashlib.blake2b(custom_id.encode("utf-8", "replace"), digest_size=12).hexdigest()
        told = {"error": {"message": error, "type": "invalid_request_error", "param": None, "code": None}}
        response = {
            "status_code": SUCCEEDED if error is None else REFUSED,
            "request_id": f"req_{name}",
            "body": prediction if error is None else told,
        }
        line = {"id": f"batch_req_{name}", "custom_id": custom_id, "response": response, "error": None}
        return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def model_of(file: BinaryIO) -> str:
    """The model that a batch file's first line names. Raises BadTable."""
    reader = BatchReader(file)
    next(iter(reader))
    assert reader.model is not None
    return reader.model


def lines_of(file: BinaryIO, *, succeeded: bool) -> Iterator[bytes]:
    """The lines of a result that belong into the output file, or those of the error file."""
    for line in file:
        if (orjson.loads(line)["response"]["status_code"] == SUCCEEDED) == succeeded:
            yield line


class BatchAsker(ServiceAsker):
    """Asks for one body at a time: each has its own format, and its own usage."""

    def answers(self, inputs: Sequence[Any], context: CallContext) -> list[Any]:
        documents = []
        for index, body in enumerate(inputs):
            try:
                call = EmbeddingsCall.read(body)
                found = self._service.predict(self._model, call.inputs, PARAMETERS, context)
                documents.append(orjson.loads(dump(call.document(found))))
            except InvalidInput as error:
                raise RowRefused(index, str(error)) from error
        return documents
