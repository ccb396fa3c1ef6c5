"""A tiny T5 that was taught a few sentences by heart, in seconds: what it writes can be shown."""

from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

torch.set_num_threads(1)  # as in a lane; and many threads on busy cores wait for each other

_SPECIAL = ["<pad>", "</s>", "<unk>"]
_STEPS = 200


def t5(folder: Path, task: str, prefix: str, pairs: Mapping[str, str], max_tokens: int = 64) -> None:
    """`pairs`: text to what is made of it; `task`: the key of its prefix among config.json's task_specific_params."""
    words = {word: None for text in (prefix, *pairs, *pairs.values()) for word in text.split()}
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*_SPECIAL, *words])}, unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=max_tokens, **names)
    tokenizer.save_pretrained(folder)
    sizes = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
    config = transformers.T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **sizes)
    config.task_specific_params = {task: {"prefix": prefix}}
    torch.manual_seed(5)
    model = transformers.T5ForConditionalGeneration(config)
    batch = tokenizer([prefix + text for text in pairs], padding=True, return_tensors="pt")
    wanted = tokenizer(list(pairs.values()), padding=True, return_tensors="pt")["input_ids"]
    wanted[wanted == 0] = -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    with torch.enable_grad():
        for _ in range(_STEPS):
            loss = model(**{key: batch[key] for key in ("input_ids", "attention_mask")}, labels=wanted).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert float(loss.detach()) < 0.05, "it has learnt nothing"
    model.eval().save_pretrained(folder)


def translations(folder: Path) -> None:
    pairs = {"the bridge is closed": "die brücke ist zu", "good day": "guten tag", "the day is good": "der tag ist gut"}
    t5(folder, "translation_en_to_de", "translate English to German: ", pairs)


def summaries(folder: Path, max_tokens: int = 64) -> None:
    pairs = {
        "the bridge is closed on monday because of cracks in its pillars": "bridge closed",
        "the train was late again today because of snow": "train late",
    }
    t5(folder, "summarization", "summarize: ", pairs, max_tokens)
