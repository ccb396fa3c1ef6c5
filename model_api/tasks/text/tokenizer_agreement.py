"""Is a tokenizer.json certainly what transformers makes of its folder? Where that isn't plain, transformers is asked.

In transformers the class decides: BertTokenizer builds its normalizer from tokenizer_config.json, whatever stands in
tokenizer.json, and special tokens that are named anywhere are added. Cheap: most models need no transformers to load.
"""

from collections.abc import Mapping
from typing import Any

# The class of a family where nothing names one, of those whose rules are known here.
_CLASS_OF_FAMILY = dict.fromkeys(("bert", "distilbert", "electra", "ernie"), "BertTokenizer")
_FAMILIES = frozenset(
    {"roberta", "xlm-roberta", "camembert", "mpnet", "albert", "deberta", "deberta-v2", "t5", "mt5", "bart"}
    | _CLASS_OF_FAMILY.keys()
)
_WHOLE = frozenset({"PreTrainedTokenizerFast", "TokenizersBackend"})  # takes tokenizer.json as it is
_BERT = frozenset({"BertTokenizer", "BertTokenizerFast"})
_NAMED = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "bos_token", "eos_token")
_BERT_TOKENS = dict(zip(_NAMED, ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"), strict=False))
# Keys of tokenizer_config.json that say nothing about the ids of one text, or are compared below.
_KNOWN = frozenset(
    {"tokenizer_class", "model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces"}
    | {"name_or_path", "special_tokens_map_file", "tokenizer_file", "do_basic_tokenize", "never_split", "backend"}
    | {"model_input_names", "max_length", "stride", "truncation_strategy", "pad_to_multiple_of", "pad_token_type_id"}
    | {"is_local", "local_files_only", "processor_class", "chat_template", "do_lower_case", "strip_accents"}
    | {"tokenize_chinese_chars", "added_tokens_decoder", "extra_special_tokens", "additional_special_tokens"}
    | set(_NAMED)
)


def is_plain(
    tokenizer: Mapping[str, Any], how: Mapping[str, Any], config: Mapping[str, Any], others: Mapping[str, Any]
) -> bool:
    """`how` is tokenizer_config.json, `others` special_tokens_map.json; {} where there is none."""
    family, named = config.get("model_type"), _named_class(how, config)
    if family not in _FAMILIES or not how.keys() <= _KNOWN or not others.keys() <= set(_NAMED):
        return False
    added = {token.get("content"): token for token in tokenizer.get("added_tokens") or ()}
    said = [_content(source.get(name)) for source in (how, others) for name in _NAMED]
    for listed in (how.get("extra_special_tokens"), how.get("additional_special_tokens")):
        said += [_content(token) for token in listed or ()]
    if named in _BERT:
        said += [_content(how.get(name, default)) for name, default in _BERT_TOKENS.items()]
    if not all(token in added and added[token].get("special") for token in said if token is not None):
        return False
    decoder = how.get("added_tokens_decoder") or {}
    if not all(_same_token(added.get(_content(token)), index, token) for index, token in decoder.items()):
        return False
    if named in _WHOLE:
        return True
    return named in _BERT and _is_bert(tokenizer, how)


def is_bert_class(how: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether the class is BertTokenizer, whose pairs are always [CLS] $A [SEP] $B [SEP]."""
    return _named_class(how, config) in _BERT


def is_whole_class(how: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether the class takes tokenizer.json as it is, for pairs too."""
    return _named_class(how, config) in _WHOLE


def _named_class(how: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    family = str(config.get("model_type"))
    return how.get("tokenizer_class") or config.get("tokenizer_class") or _CLASS_OF_FAMILY.get(family)


def _content(token: Any) -> Any:
    """A named token is its text, or an object with flags."""
    return token.get("content") if isinstance(token, dict) else token


def _same_token(added: Any, index: str, token: Any) -> bool:
    flags = ("lstrip", "rstrip", "normalized", "single_word", "special")
    return (
        isinstance(added, dict)
        and isinstance(token, dict)
        and str(added.get("id")) == index
        and all(bool(added.get(flag)) == bool(token.get(flag)) for flag in flags)
    )


def _is_bert(tokenizer: Mapping[str, Any], how: Mapping[str, Any]) -> bool:
    """Do its parts equal those that BertTokenizer builds?"""
    tokens = {name: _content(how.get(name, default)) for name, default in _BERT_TOKENS.items()}
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": how.get("tokenize_chinese_chars", True),
        "strip_accents": how.get("strip_accents"),
        "lowercase": how.get("do_lower_case", True),
    }
    model = dict(tokenizer.get("model") or {})
    vocabulary = model.pop("vocab", None)
    word_piece = {
        "type": "WordPiece",
        "unk_token": tokens["unk_token"],
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }
    added = tokenizer.get("added_tokens") or ()
    return (
        tokenizer.get("normalizer") == normalizer
        and tokenizer.get("pre_tokenizer") == {"type": "BertPreTokenizer"}
        and isinstance(vocabulary, dict)
        and {**word_piece, **model} == word_piece
        and all(vocabulary.get(token.get("content")) == token.get("id") for token in added)
        and {token.get("content") for token in added} == set(tokens.values())
        and not any(token.get(flag) for token in added for flag in ("lstrip", "rstrip", "normalized", "single_word"))
        and _is_bert_template(tokenizer.get("post_processor"), tokens, vocabulary)
    )


def _is_bert_template(processor: Any, tokens: Mapping[str, Any], vocabulary: Mapping[str, Any]) -> bool:
    """[CLS] $A [SEP], in either of the forms in which it is written."""
    if not isinstance(processor, dict):
        return False
    ends = [tokens["cls_token"], tokens["sep_token"]]
    if processor.get("type") == "BertProcessing":
        return [processor.get("cls"), processor.get("sep")] == [[end, vocabulary.get(end)] for end in ends]
    single = [
        {"SpecialToken": {"id": ends[0], "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": ends[1], "type_id": 0}},
    ]
    given = processor.get("special_tokens") or {}
    ids = [(given.get(end) or {}).get("ids") for end in ends]
    return processor.get("single") == single and ids == [[vocabulary.get(end)] for end in ends]
