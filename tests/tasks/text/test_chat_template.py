"""Chat templates: the same text as transformers makes, and nothing that a hostile one does harms anybody."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import transformers

from model_api.errors import ForwardFailed, InvalidInput, Refused
from model_api.tasks.text.chat_template import RENDER_S, ChatTemplate, has_template, settle_template
from model_api.tasks.text.encoding import LocalEncoder
from model_api.tasks.text.settled_tokenizer import settle
from tests.rigs.small_decoders import CHAT_TEMPLATE, save_small_decoder, set_template

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = '' %}{% endif %}"
    "{% for message in loop_messages %}{% if loop.index0 == 0 %}{% set content = system_message + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
OTHERS = """{%- set ns = namespace(found=false) -%}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {%- set ns.found = true %}
        {%- if loop.index > 3 %}{% break %}{% endif %}
{{ message | tojson }}
    {%- else %}
{% generation %}{{ message.content | upper }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
{{- tools is defined and tools }} {{ dict(a=1) | tojson(indent=2) }} {{ ns.found }}
"""
CONVERSATIONS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "  the day was good <b>&\"'</b> é東京 "}],
    [{"role": "system", "content": "be brief"}, {"role": "user", "content": "not bad"}],
    [
        {"role": "user", "content": "the film"},
        {"role": "assistant", "content": "was bad\n\n"},
        {"role": "user", "content": "</s> and <s>the train?"},
    ],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decoder")
    save_small_decoder(folder)
    return folder


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML, LLAMA_2, OTHERS], ids=["own", "chatml", "llama", "others"])
@pytest.mark.parametrize("in_a_file", [False, True])
def test_the_ids_are_those_of_apply_chat_template(folder: Path, tmp_path: Path, template: str, in_a_file: bool) -> None:
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    set_template(tmp_path, "never this" if in_a_file else template)
    if in_a_file:
        (tmp_path / "chat_template.jinja").write_text(template)
    settle(tmp_path)
    settle_template(tmp_path)
    encoder, theirs = LocalEncoder(tmp_path, renders=True), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for messages in CONVERSATIONS:
        wanted = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert encoder.encode_chat(messages) == wanted
    assert theirs.chat_template == template


def test_what_has_no_template_is_no_chat_model(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    settle_template(tmp_path)
    assert not has_template(tmp_path)


def render(template: str, messages: Any = ({"role": "user", "content": "x"},)) -> str:
    return ChatTemplate({"template": template, "tokens": {}}).render(messages)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for i in range(10**9) %}{% endfor %}", "too much|fails"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "more than 2 s"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}", "more than 2 s"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "too much"),
        ("{{ 'a' * 5000000 }}", "makes 5000000 characters"),
        ("{{ messages[0].__class__.__mro__ }}", "does what no template may|fails"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "does what no template may|fails"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "does what no template may|fails"),
        ("{{ messages.append(1) }}", "does what no template may|fails"),
        ("{% include '/etc/passwd' %}", "fails"),
        ("{{ messages[7].content }}", "fails"),
        ("{{ 1 / 0 }}", "fails .ZeroDivisionError"),
        ("{% for %}", "is no jinja"),
    ],
)
def test_a_hostile_one_fails_in_words(template: str, told: str) -> None:
    began = time.process_time()
    with pytest.raises(ForwardFailed, match=told):
        render(template)
    assert time.process_time() - began < RENDER_S + 8


def test_what_it_refuses_itself_is_the_callers_to_mend() -> None:
    with pytest.raises(InvalidInput, match="refuses it: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def test_messages_are_data_and_never_templates() -> None:
    assert render("{{ messages[0].content }}", [{"role": "user", "content": "{{ 1 + 1 }}"}]) == "{{ 1 + 1 }}"


@pytest.mark.parametrize("template", ["{% for %}", "{{ 1 / 0 }}"])
def test_one_that_can_never_work_is_refused_at_a_load(folder: Path, tmp_path: Path, template: str) -> None:
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    set_template(tmp_path, template)
    with pytest.raises(Refused, match=r"tokenizer_config\.json: the model's chat template"):
        settle_template(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"] == template
