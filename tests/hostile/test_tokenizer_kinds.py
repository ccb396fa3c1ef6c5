"""Which tokenizers the web process may run is read from the file, never tried out."""

import base64
import contextlib
import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from model_api.errors import Refused
from model_api.tasks.text.character_map import worst_growth
from model_api.tasks.text.tokenizer_fields import Elsewhere
from model_api.tasks.text.tokenizer_kinds import check_document, why_elsewhere
from tests.rigs.models import minilm_folder, tiny_model

VOCABULARY = {"[UNK]": 0, "a": 1, "b": 2, "ab": 3}


def written(tokenizer: Tokenizer) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def bert() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def roberta() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(VOCABULARY, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def t5() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0)], 0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return tokenizer


def llama() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(VOCABULARY, [("a", "b")], fuse_unk=True, byte_fallback=True, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


@pytest.mark.parametrize("make", [bert, roberta, t5, llama])
def test_what_the_families_write_is_on_the_list(make: Callable[[], Tokenizer]) -> None:
    check_document(written(make()))


def test_the_demo_s_own_is_on_the_list() -> None:
    assert why_elsewhere(minilm_folder()) == ""


def _normalizer(part: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(normalizer=part)


def _replace(pattern: Any, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _huge_vocabulary(document: dict[str, Any]) -> None:
    document["model"]["vocab"] |= {f"w{i}": i for i in range(131_073)}


def _many_added(document: dict[str, Any]) -> None:
    document["added_tokens"] = [{"id": i, "content": f"<{i}>"} for i in range(10_001)]


def _long_template(document: dict[str, Any]) -> None:
    text = {"Sequence": {"id": "A", "type_id": 0}}
    document["post_processor"] = {"type": "TemplateProcessing", "single": [text] * 2, "pair": [], "special_tokens": {}}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_normalizer(_replace({"Regex": "^(?:§|§)*a"}, "b")), "Replace: pattern"),
        (
            _normalizer({"type": "Sequence", "normalizers": [_replace({"String": "§"}, "§§")] * 26}),
            "normalizer Sequence",
        ),
        (_normalizer({"type": "Sequence", "normalizers": [_replace({"String": "§"}, "§§")] * 4}), "16 times"),
        (_normalizer({"type": "Sequence", "normalizers": [{"type": "ByteLevel"}] * 4}), "16 times"),
        (_normalizer(_replace({"String": ""}, "a")), "Replace: pattern"),
        (_normalizer(_replace({"String": "a"}, "a" * 17)), "Replace: content"),
        (_normalizer({"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "precompiled_charsmap"),
        (_normalizer({"type": "Lowercase", "more": 1}), "Lowercase: more"),
        (_normalizer({"type": ["Lowercase"]}), "normalizer"),
        (lambda d: d.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+b"}}), "Split: pattern"),
        (lambda d: d["model"].update(max_input_chars_per_word=10**9), "max_input_chars_per_word"),
        (lambda d: d["model"].update(vocab={"[UNK]": 0, "a" * 513: 1}), "length"),
        (lambda d: d["model"].update(vocab={"[UNK]": 2**40}), "token's id"),
        (lambda d: d["model"].update(type="Wordpiece2"), "model Wordpiece2"),
        (_huge_vocabulary, "131072"),
        (_many_added, "added_tokens"),
        (_long_template, "TemplateProcessing: single"),
        (lambda d: d.update(extra=1), "extra is not known"),
    ],
)
def test_what_is_not_on_the_list_is_named(spoil: Callable[[dict[str, Any]], object], reason: str) -> None:
    document = written(bert())
    spoil(document)
    with pytest.raises(Elsewhere, match=reason):
        check_document(document)


def test_an_unknown_token_that_is_not_there_works_nowhere() -> None:
    document = written(bert())
    document["model"]["unk_token"] = "[NONE]"
    with pytest.raises(Refused, match=r"'\[NONE\]' is not in its vocabulary"):
        check_document(document)


def test_a_name_twice_is_read_by_nobody_here(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, seed=1)
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace('"normalizer":', '"normalizer": null, "normalizer":', 1))
    assert "twice" in why_elsewhere(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**33) | st.text(max_size=3), lambda inner: st.lists(inner)
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_part_replaced_by_anything_is_judged_not_raised(data: st.DataObject) -> None:
    """And what passes loads without a panic."""
    document = copy.deepcopy(written(data.draw(st.sampled_from([bert, roberta, t5, llama]))()))
    place: Any = document
    while True:
        keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    # The library may refuse what passes (a field that is missing): by an Exception, which a panic is not.
    with contextlib.suppress(Exception):
        check_document(document)
        assert Tokenizer.from_str(json.dumps(document)).encode("ab [UNK] ÀÉ東 a§b  c")


def character_map(*entries: tuple[bytes, bytes]) -> str:
    """A double array for keys of one byte each: the root's children lie at their bytes' places."""
    units = [0] * 1024
    units[0] = 0  # root: its children are at 0 ^ byte
    replacements = b""
    for number, (key, replacement) in enumerate(entries, 1):
        leaf = 256 * number
        (byte,) = key
        units[byte] = ((byte ^ leaf) << 10) | 256 | byte
        units[leaf] = len(replacements) | 2**31
        replacements += replacement + b"\0"
    trie = b"".join(struct.pack("<I", unit) for unit in units)
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + replacements).decode()


def test_a_character_map_may_make_a_character_as_long_as_unicode_does() -> None:
    assert worst_growth(character_map((b"a", b"bcd"), (b"b", b""))) == 3.0
    assert worst_growth(character_map((b"a", b"b" * 500))) == 500.0
    tokenizer = t5()
    usual = base64.b64decode(character_map((b"a", b"bcd")))
    tokenizer.normalizer = normalizers.Precompiled(usual)
    assert tokenizer.normalizer.normalize_str("a") == "bcd"  # the library reads the table as we do
    check_document(written(tokenizer))
    tokenizer.normalizer = normalizers.Precompiled(base64.b64decode(character_map((b"a", b"b" * 500))))
    with pytest.raises(Elsewhere, match="precompiled_charsmap"):
        check_document(written(tokenizer))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_character_map_or_none(table: bytes) -> None:
    growth = worst_growth(base64.b64encode(table).decode())
    assert growth is None or growth >= 1.0
    whole = base64.b64encode(struct.pack("<I", len(table) // 8 * 4) + table).decode()
    growth = worst_growth(whole)
    assert growth is None or growth >= 1.0
