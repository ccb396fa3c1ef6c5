"""OpenAI's chat completions and completions: their bodies, answers, and the chunks of an answer that grows."""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_api.errors import InvalidInput
from model_api.serving.calls import Answer

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TASK = "text-generation"
DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's own
MOST_TOKENS = 4096  # who asks for more gets so many, and "length"
# Fields that are taken where they ask for nothing: the values at which that is so, beside null.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
}
_OF_NO_USE = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
_READ = frozenset({"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p"})
_PASSED_ON = ("stop", "seed", "top_k", "repetition_penalty")
_POINTERS = {"max_new_tokens": "max_tokens"}


@dataclass(frozen=True)
class GenerationCall:
    """One body, checked as far as the model's own side doesn't. `inputs` are as the task takes them."""

    model: str
    inputs: list[Any]
    parameters: Mapping[str, Any]
    stream: bool
    include_usage: bool
    chat: bool
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def read(cls, body: Mapping[str, Any], *, chat: bool) -> "GenerationCall":
        """Raises InvalidInput that points at the field."""
        what = "messages" if chat else "prompt"
        for name in sorted(body.keys() - _READ - _OF_NO_USE - {what, *_PASSED_ON}):
            if name not in _NEUTRAL:
                raise InvalidInput(f"unknown field {name[:80]!r}", f"/{name[:80]}")
            if body[name] is not None and body[name] not in _NEUTRAL[name]:
                raise InvalidInput("is not served here: leave it out", f"/{name}")
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise InvalidInput("must name a model", "/model")
        stream, options = body.get("stream") or False, body.get("stream_options") or {}
        if not isinstance(stream, bool):
            raise InvalidInput("must be true or false", "/stream")
        if not isinstance(options, Mapping):
            raise InvalidInput("must be an object", "/stream_options")
        inputs = [_messages(body.get("messages"))] if chat else _prompts(body.get("prompt"))
        if stream and len(inputs) > 1:
            raise InvalidInput("one prompt at a time is streamed", "/prompt")
        return cls(model, inputs, _parameters(body, chat), stream, bool(options.get("include_usage")), chat)

    def pointer(self, of_the_task: str) -> str:
        """Where in this body the task's pointer points."""
        if self.chat and of_the_task.startswith("/inputs/0"):
            return "/messages" + of_the_task[len("/inputs/0") :]
        if of_the_task.startswith("/inputs"):
            whole = len(self.inputs) == 1
            return "/prompt" + of_the_task[len("/inputs/0") if whole else len("/inputs") :]
        name = of_the_task.removeprefix("/parameters/")
        return f"/{_POINTERS.get(name, name)}" if name != of_the_task else of_the_task

    def document(self, answer: Answer) -> dict[str, Any]:
        """The whole answer."""
        kind = "chat.completion" if self.chat else "text_completion"
        choices = [self._choice(index, one) for index, one in enumerate(answer.predictions)]
        return {**self._head(kind), "choices": choices, "usage": usage(answer)}

    def _choice(self, index: int, one: Mapping[str, Any]) -> dict[str, Any]:
        ended = {"index": index, "logprobs": None, "finish_reason": one["finish_reason"]}
        if self.chat:
            return {**ended, "message": {"role": "assistant", "content": one["text"], "refusal": None}}
        return {**ended, "text": one["text"]}

    def first_chunks(self) -> Iterator[dict[str, Any]]:
        if self.chat:
            yield self._chunk({"delta": {"role": "assistant", "content": ""}})

    def chunk(self, text: str) -> dict[str, Any]:
        """A piece of the text."""
        return self._chunk({"delta": {"content": text}} if self.chat else {"text": text})

    def last_chunks(self, answer: Answer) -> Iterator[dict[str, Any]]:
        reason = answer.predictions[0]["finish_reason"]
        yield self._chunk({"delta": {}} if self.chat else {"text": ""}, reason)
        if self.include_usage:
            yield {**self._chunk({}), "choices": [], "usage": usage(answer)}

    def _chunk(self, told: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, **told, "logprobs": None, "finish_reason": reason}
        head = self._head("chat.completion.chunk" if self.chat else "text_completion")
        return {**head, "choices": [choice], **({"usage": None} if self.include_usage else {})}

    def _head(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created, "model": self.model}


def usage(answer: Answer) -> dict[str, int]:
    """In tokens of the model's own."""
    generated = sum(int(one["tokens"]) for one in answer.predictions)
    total = answer.n_tokens + generated
    return {"prompt_tokens": answer.n_tokens, "completion_tokens": generated, "total_tokens": total}


def _parameters(body: Mapping[str, Any], chat: bool) -> dict[str, Any]:
    given = {name: body[name] for name in _PASSED_ON if body.get(name) is not None}
    most = (
        body.get("max_completion_tokens") if body.get("max_completion_tokens") is not None else body.get("max_tokens")
    )
    if most is None and not chat:
        most = DEFAULT_COMPLETION_TOKENS
    if most is not None:
        whole = isinstance(most, int) and not isinstance(most, bool)
        given["max_new_tokens"] = min(most, MOST_TOKENS) if whole else most
    temperature, top_p = body.get("temperature"), body.get("top_p")
    if temperature is not None:
        given["temperature"] = temperature
    if top_p is not None and top_p != 1 and temperature != 0:  # else it changes nothing
        given |= {"top_p": top_p, "temperature": 1.0 if temperature is None else temperature}
    return given


def _messages(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InvalidInput("must be a list of one message at least", "/messages")
    return [_message(one, f"/messages/{index}") for index, one in enumerate(value)]


def _message(value: Any, place: str) -> dict[str, Any]:
    """As the task takes it: texts alone, a developer's being the system's."""
    if not isinstance(value, Mapping):
        raise InvalidInput("must be a message: {role, content}", place)
    for name in sorted(value.keys() - {"role", "content", "name"}):
        if value[name] not in (None, [], ""):
            raise InvalidInput("is not served here: leave it out", f"{place}/{name[:80]}")
    content = value.get("content")
    if isinstance(content, list):
        content = "".join(_text_part(part, f"{place}/content/{index}") for index, part in enumerate(content))
    role = value.get("role")
    return {"role": "system" if role == "developer" else role, "content": content}


def _text_part(part: Any, place: str) -> str:
    if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise InvalidInput('must be {"type": "text", "text": "..."}: this model reads texts alone', place)
    return str(part["text"])


def _prompts(value: Any) -> list[str]:
    prompts: Sequence[Any] = [value] if isinstance(value, str) else value if isinstance(value, list) else ()
    if not prompts:
        raise InvalidInput("must be a text, or a list of one text at least", "/prompt")
    for index, prompt in enumerate(prompts):
        if isinstance(prompt, int | list):
            # They'd be numbers of another vocabulary than the model's: served, the answer would be nonsense.
            raise InvalidInput("holds token ids, which mean something else to each model: send texts", "/prompt")
        if not isinstance(prompt, str):
            raise InvalidInput("must be a text", f"/prompt/{index}")
    return list(prompts)
