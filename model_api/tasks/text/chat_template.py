"""A model's chat template: conversations to the text that the model was trained on, by transformers' own renderer.

A template is a program of a stranger's. It runs in jinja's sandbox, in a process that may be ended (never in the web
process), within bounds of time and memory. Model side; the web side only asks whether there is one.
"""

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model_api.errors import ForwardFailed, InvalidInput, Refused
from model_api.repository.bounded_json import read_json
from model_api.tasks.text.settled_tokenizer import library_tokenizer

CHAT_FILE = ".converted/chat.json"
TEMPLATE_FILE, TOKENIZER_CONFIG = "chat_template.jinja", "tokenizer_config.json"
MAX_FILE_BYTES = 4 * 2**20
RENDER_S = 2.0  # of processor time; usual are milliseconds
SETTLE_CPU_S = 20
MAX_RENDERED_CHARS = 4_000_000
SAMPLE = ({"role": "user", "content": "Hello"},)

Messages = Sequence[Mapping[str, Any]]


def has_template(folder: Path) -> bool:
    """Whether the model in `folder` takes conversations; known once it is settled. Any process."""
    return (folder / CHAT_FILE).exists()


def settle_template(folder: Path) -> None:
    """Write down beside the verified copy what its own library says of conversations, and try it. In a process that
    ends afterwards, and is ended where the template takes too long for that. Raises Refused; OSError."""
    if not _has_source(folder) or has_template(folder):
        return
    tokenizer = library_tokenizer(folder)
    try:
        source = tokenizer.get_chat_template()
    except ValueError as error:
        raise Refused(TOKENIZER_CONFIG, f"chat template: {str(error)[:200]}") from error
    document = {"template": source, "tokens": _plain(tokenizer.special_tokens_map)}
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    used = resource.getrusage(resource.RUSAGE_SELF)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + SETTLE_CPU_S, hard))
    try:
        ChatTemplate(document).render(SAMPLE)
    except InvalidInput:
        pass  # it wants other conversations, and says so
    except ForwardFailed as error:
        raise Refused(template_place(folder), str(error)) from error
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    path = folder / CHAT_FILE
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(document), "utf-8")
    partial.rename(path)


def template_place(folder: Path) -> str:
    return TEMPLATE_FILE if (folder / TEMPLATE_FILE).exists() else TOKENIZER_CONFIG


def _has_source(folder: Path) -> bool:
    if (folder / TEMPLATE_FILE).exists():
        return True
    config = folder / TOKENIZER_CONFIG
    document = read_json(config, MAX_FILE_BYTES) if config.exists() else {}
    return isinstance(document, dict) and bool(document.get("chat_template"))


def _plain(tokens: Mapping[str, Any]) -> dict[str, Any]:
    return {k: [str(t) for t in v] if isinstance(v, list | tuple) else str(v) for k, v in tokens.items()}


class ChatTemplate:
    """Conversations to texts. On the process's main thread alone, whose alarm clock ends what takes long."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        from transformers.utils.chat_template_utils import render_jinja_template

        self._render: Callable[..., Any] = render_jinja_template
        self._source = str(document["template"])
        self._tokens = dict(document["tokens"])

    @classmethod
    def of(cls, folder: Path) -> "ChatTemplate":
        document = read_json(folder / CHAT_FILE, 2 * MAX_FILE_BYTES)
        if not isinstance(document, dict):
            raise Refused(CHAT_FILE, "not a JSON object")
        return cls(document)

    def render(self, messages: Messages) -> str:
        """With the beginning of the model's turn at its end. Raises InvalidInput where the template itself says no, and
        ForwardFailed where it fails or goes beyond its bounds."""
        import jinja2
        from jinja2.exceptions import SecurityError

        try:
            with _alarm(RENDER_S):
                rendered = self._render(
                    conversations=[[dict(message) for message in messages]],
                    chat_template=self._source,
                    add_generation_prompt=True,
                    **self._tokens,
                )[0][0]
        except _TookTooLong:
            raise ForwardFailed(f"the model's chat template took more than {RENDER_S:g} s") from None
        except (MemoryError, OverflowError, RecursionError) as error:
            raise ForwardFailed(f"the model's chat template takes too much ({type(error).__name__})") from None
        except jinja2.TemplateSyntaxError as error:
            raise ForwardFailed(f"the model's chat template is no jinja ({str(error)[:200]})") from None
        except SecurityError:
            raise ForwardFailed("the model's chat template does what no template may") from None
        except jinja2.UndefinedError as error:
            raise ForwardFailed(f"the model's chat template fails ({str(error)[:200]})") from None
        except jinja2.TemplateError as error:  # its raise_exception
            raise InvalidInput(f"the model's chat template refuses it: {str(error)[:300]}") from None
        except Exception as error:
            raise ForwardFailed(f"the model's chat template fails ({type(error).__name__})") from None
        if len(rendered) > MAX_RENDERED_CHARS:
            raise ForwardFailed(f"the model's chat template makes {len(rendered)} characters of it")
        return str(rendered)


class _TookTooLong(BaseException):
    """No Exception: a template may catch those."""


@contextmanager
def _alarm(after_s: float) -> Iterator[None]:
    """Processor time: how busy the machine is decides nothing."""

    def ring(*_: object) -> None:
        raise _TookTooLong

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, after_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
