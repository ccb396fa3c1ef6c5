"""OpenAI's own client, unmodified, has the server named in argv generate: what it got, as JSON. In .venvs/deploy."""

import json
import sys
from typing import Any

import openai

from tests.clients.openai_driver import refusal

USER: Any = [{"role": "user", "content": "was the film good?"}]


def chat(client: openai.OpenAI, model: str) -> dict[str, Any]:
    ask = client.chat.completions
    whole = ask.create(model=model, messages=USER, max_tokens=30)
    stream = ask.create(model=model, messages=USER, max_tokens=30, stream=True, stream_options={"include_usage": True})
    chunks = [chunk.model_dump() for chunk in stream]
    two = [{"type": "text", "text": "was the film"}, {"type": "text", "text": " good?"}]
    parts: Any = [{"role": "user", "content": two}]
    boss: Any = [{"role": "boss", "content": "x"}]
    image: Any = [{"role": "user", "content": [{"type": "image_url"}]}]
    tools: Any = [{"type": "function"}]
    sampled = [ask.create(model=model, messages=USER, max_tokens=9, temperature=1.5, seed=seed) for seed in (3, 3, 4)]
    left = ask.create(model=model, messages=USER, max_tokens=200, stream=True)
    next(iter(left))
    left.close()
    return {
        "whole": whole.model_dump(),
        "chunks": chunks,
        "in_parts": ask.create(model=model, messages=parts, max_completion_tokens=30).choices[0].message.content,
        "sampled": [one.choices[0].message.content for one in sampled],
        "after_leaving": ask.create(model=model, messages=USER, max_tokens=2, temperature=0).usage.model_dump(),
        "refused": {
            "empty": refusal(lambda: ask.create(model=model, messages=[])),
            "role": refusal(lambda: ask.create(model=model, messages=boss)),
            "template": refusal(lambda: ask.create(model=model, messages=[{"role": "assistant", "content": "x"}])),
            "image": refusal(lambda: ask.create(model=model, messages=image)),
            "tools": refusal(lambda: ask.create(model=model, messages=USER, tools=tools)),
            "n": refusal(lambda: ask.create(model=model, messages=USER, n=2)),
            "temperature": refusal(lambda: ask.create(model=model, messages=USER, temperature=9, stream=True)),
            "max_tokens": refusal(lambda: ask.create(model=model, messages=USER, max_tokens=0)),
            "model": refusal(lambda: ask.create(model="nobody", messages=USER)),
        },
    }


def completions(client: openai.OpenAI, model: str) -> dict[str, Any]:
    ask = client.completions
    whole = ask.create(model=model, prompt=["the film", "not a day"], max_tokens=20)
    stop = whole.choices[0].text[3:6]
    chunks = list(ask.create(model=model, prompt="the film", max_tokens=20, stream=True))
    return {
        "whole": whole.model_dump(),
        "streamed": "".join(chunk.choices[0].text for chunk in chunks),
        "reason": chunks[-1].choices[0].finish_reason,
        "default": ask.create(model=model, prompt="the film").usage.model_dump(),
        "stopped": ask.create(model=model, prompt="the film", max_tokens=20, stop=stop).model_dump(),
        "tokens": refusal(lambda: ask.create(model=model, prompt=[1, 2])),
        "second": refusal(lambda: ask.create(model=model, prompt=["x", ""])),
    }


def main() -> None:
    url, model = sys.argv[1:]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=200)
    models = [one.id for one in client.models.list()]
    print(json.dumps({"chat": chat(client, model), "completions": completions(client, model), "models": models}))


if __name__ == "__main__":
    main()
