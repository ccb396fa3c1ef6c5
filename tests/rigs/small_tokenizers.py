"""A tokenizer small enough for the small models: every letter is in its vocabulary, so every ASCII text is."""

import string
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

# Id 1 is <pad> and 3 is [UNK] in all of them, as the RoBERTa family wants it.
_SPECIAL = ["[CLS]", "[PAD]", "[SEP]", "[UNK]"]
_WORDS = ["the", "is", "was", "good", "bad", "day", "train", "film", "food", "not", "very", "and"]


def save_small_tokenizer(folder: Path, *, max_tokens: int, ends: str = "bert") -> Any:
    """Write tokenizer.json and tokenizer_config.json; `ends`: "bert" ([CLS] x [SEP]) or "t5" (x </s>)."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = [*_SPECIAL, *letters, *(f"##{c}" for c in string.ascii_lowercase + string.digits), *_WORDS]
    assert len(vocabulary) <= 150
    tokenizer = Tokenizer(WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    template = "[CLS] $A [SEP]" if ends == "bert" else "$A [SEP]"
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=[("[CLS]", 0), ("[SEP]", 2)])
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    if ends == "bert":
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_tokens, **names)
    fast.save_pretrained(folder)
    return fast
