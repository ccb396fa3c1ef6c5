"""OpenAI's own client, unmodified, against the server named in argv: what it got, as JSON. Runs in .venvs/deploy."""

import json
import sys
import time
from typing import Any

import openai


def refusal(call: Any) -> dict[str, Any]:
    try:
        call()
    except openai.APIStatusError as error:
        return {"class": type(error).__name__, "param": error.param, "code": error.code, "message": str(error)}
    return {"class": None}


def batch_lines(model: str) -> bytes:
    bodies: list[dict[str, Any]] = [{"model": model, "input": f"the cat number {i}"} for i in range(30)]
    bodies[3] = {"model": model, "input": ["two", "texts"], "encoding_format": "base64"}
    bodies[7] = {"model": model, "input": [[1, 2, 3]]}
    bodies[8] = {"model": model, "input": "a", "dimensions": 3}
    head = {"method": "POST", "url": "/v1/embeddings"}
    return b"".join(
        json.dumps({"custom_id": f"row-{i}", **head, "body": body}).encode() + b"\n" for i, body in enumerate(bodies)
    )


def ended(client: openai.OpenAI, batch_id: str) -> Any:
    deadline = time.monotonic() + 120
    while (batch := client.batches.retrieve(batch_id)).status in ("validating", "in_progress", "finalizing"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return batch


def batches(client: openai.OpenAI, model: str) -> dict[str, Any]:
    sent = client.files.create(file=("in.jsonl", batch_lines(model)), purpose="batch")
    asked = client.batches.create(
        input_file_id=sent.id, endpoint="/v1/embeddings", completion_window="24h", metadata={"night": "1"}
    )
    done = ended(client, asked.id)
    output = client.files.content(done.output_file_id).text.splitlines()
    errors = client.files.content(done.error_file_id).text.splitlines()
    again = client.batches.create(input_file_id=sent.id, endpoint="/v1/embeddings", completion_window="24h")
    bad = client.files.create(file=("bad.jsonl", batch_lines(model) + b"no JSON\n"), purpose="batch")
    failed = ended(
        client, client.batches.create(input_file_id=bad.id, endpoint="/v1/embeddings", completion_window="24h").id
    )
    listed = [batch.id for batch in client.batches.list(limit=1)]
    ended(client, again.id)
    return {
        "sent": sent.model_dump(),
        "read_back": client.files.content(sent.id).content == batch_lines(model),
        "asked": asked.model_dump(),
        "done": done.model_dump(),
        "output": [json.loads(line) for line in output],
        "errors": [json.loads(line) for line in errors],
        "output_bytes": client.files.retrieve(done.output_file_id).bytes == sum(len(line) + 1 for line in output),
        "failed": failed.model_dump(),
        "listed": listed == [failed.id, again.id, asked.id],
        "files": [file.id for file in client.files.list(purpose="batch")][-1] == sent.id,
        "deleted": client.files.delete(bad.id).deleted,
        "gone": refusal(lambda: client.files.retrieve(bad.id)),
        "cancel_late": refusal(lambda: client.batches.cancel(done.id)),
        "unknown": refusal(lambda: client.batches.retrieve("batch_1")),
        "purpose": refusal(lambda: client.files.create(file=("in.jsonl", b"{}"), purpose="assistants")),
    }


def cancelled(client: openai.OpenAI, model: str) -> str:
    head = {"method": "POST", "url": "/v1/embeddings"}
    lines = [{"custom_id": str(i), **head, "body": {"model": model, "input": f"{i} " * 100}} for i in range(20_000)]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    sent = client.files.create(file=("long.jsonl", content), purpose="batch")
    asked = client.batches.create(input_file_id=sent.id, endpoint="/v1/embeddings", completion_window="24h")
    client.batches.cancel(asked.id)
    return str(ended(client, asked.id).status)


def embeddings(client: openai.OpenAI, model: str) -> dict[str, Any]:
    texts = ["the cat", "the rain"]
    found = client.embeddings.create(model=model, input=texts)  # the client asks for base64, and decodes it
    floats = client.embeddings.create(model=model, input=texts, encoding_format="float")
    return {
        "vectors": [item.embedding for item in found.data],
        "same": all(
            abs(a - b) < 1e-7
            for one, other in zip(floats.data, found.data, strict=True)
            for a, b in zip(one.embedding, other.embedding, strict=True)
        ),
        "usage": found.usage.model_dump(),
        "one": len(client.embeddings.create(model=model, input="the cat").data),
        "size": len(client.embeddings.create(model=model, input="a", dimensions=len(found.data[0].embedding)).data),
        "models": [one.id for one in client.models.list()],
        "refused": {
            "tokens": refusal(lambda: client.embeddings.create(model=model, input=[[1, 2]])),
            "token_list": refusal(lambda: client.embeddings.create(model=model, input=[1, 2])),
            "empty": refusal(lambda: client.embeddings.create(model=model, input=[])),
            "dimensions": refusal(lambda: client.embeddings.create(model=model, input="a", dimensions=2)),
            "model": refusal(lambda: client.embeddings.create(model="nobody", input="a")),
            "path": refusal(lambda: client.post("/nowhere", cast_to=object, body={})),
        },
    }


def main() -> None:
    url, model = sys.argv[1:]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=60)
    told = {"embeddings": embeddings(client, model), "batches": batches(client, model)}
    print(json.dumps({**told, "cancelled": cancelled(client, model)}))


if __name__ == "__main__":
    main()
