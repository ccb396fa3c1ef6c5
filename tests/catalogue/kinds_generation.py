"""Sequence-to-sequence models: families, and all that generation_config.json says."""

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.catalogue.building import POSITIONS, SIZES, T5, Build, change, randomize, save_tokenizer, then, without
from tests.catalogue.kind import Kind, generated

LAYERS = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": POSITIONS,
}
_T5 = {name: size for name, size in T5.items() if not name.endswith("_id")}
TEXTS = ("the Film was good", "Not a VERY bad day! Schön, naïve café", "x", "the day is good and the train, " * 12)


def generator(
    family: str,
    tokenizer: str,
    start: str = "eos",
    how: dict[str, Any] | None = None,
    says: dict[str, Any] | None = None,
    **config: Any,
) -> Build:
    """Of a family with its tokenizer, whose special tokens it takes; `start` says which of them a text begins with.
    `says` stands in generation_config.json. Lively: it ends a text by itself now and then."""

    def build(folder: Path) -> None:
        n_ids = save_tokenizer(folder, tokenizer, **(how or {}))
        made = transformers.AutoTokenizer.from_pretrained(folder)
        ids = {f"{name}_token_id": getattr(made, f"{name}_token_id") for name in ("pad", "eos", "bos")}
        ids["decoder_start_token_id"] = ids[f"{start}_token_id"]
        sizes = _T5 if "t5" in family else LAYERS
        chosen = {"vocab_size": n_ids, "forced_eos_token_id": None, **ids, **sizes, **config}
        model = transformers.AutoModelForSeq2SeqLM.from_config(transformers.AutoConfig.for_model(family, **chosen))
        randomize(model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 and "embed_positions" not in name:
                    parameter.mul_(3)
        for name, value in {**ids, **(says or {})}.items():
            setattr(model.generation_config, name, value)
        model.save_pretrained(folder)

    return build


def bert2bert(folder: Path) -> None:
    n_ids = save_tokenizer(folder, "BertTokenizer")
    part = transformers.BertConfig(vocab_size=n_ids, intermediate_size=64, max_position_embeddings=POSITIONS, **SIZES)
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(part, part)
    config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = 2, 3, 0
    model = randomize(transformers.EncoderDecoderModel(config))
    own = model.generation_config
    own.decoder_start_token_id, own.eos_token_id, own.pad_token_id, own.bos_token_id = 2, 3, 0, 2
    own.max_length, own.num_beams, own.no_repeat_ngram_size = 30, 3, 2
    model.save_pretrained(folder)


def _kind(name: str, build: Build, **more: Any) -> Kind:
    return Kind(f"summarization, {name}", build, generated, inputs=TEXTS, **more)


def _translation(name: str, build: Build, **more: Any) -> Kind:
    return Kind(f"translation, {name}", build, generated, inputs=TEXTS, **more)


def _refused(name: str, build: Build, words: str, **more: Any) -> Kind:
    return Kind(f"summarization, {name}", build, refused=words, **more)


def bart(**says: Any) -> Build:
    return generator("bart", "BartTokenizer", says={"max_length": 30, **says})


BEAMS = {"num_beams": 3, "max_length": 24}
CNN = {
    "num_beams": 4,
    "min_length": 12,
    "max_length": 40,
    "no_repeat_ngram_size": 3,
    "length_penalty": 2.0,
    "early_stopping": True,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
}
LED: dict[str, Any] = {"max_encoder_position_embeddings": POSITIONS, "max_decoder_position_embeddings": POSITIONS}
MBART = {"task": "summarization"}

_MBART50 = generator("mbart", "MBart50Tokenizer", scale_embedding=True)
_MBART25 = generator("mbart", "MBartTokenizer", says={"decoder_start_token_id": 129})
_NLLB = generator("m2m_100", "NllbTokenizer", scale_embedding=True)
_PAIRS = {
    "translation_en_to_de": {"prefix": "translate English to German: "},
    "translation_en_to_fr": {"prefix": "translate English to French: "},
}
_T5_PAIRS = then(generator("t5", "T5Tokenizer", "pad"), change("config.json", task_specific_params=_PAIRS))
_INTO = {"tgt_lang": "fra_Latn"}
TRANSLATION = [
    _translation("NLLB", _NLLB, parameters=_INTO),
    _translation("NLLB, from another language", _NLLB, parameters={"src_lang": "deu_Latn", **_INTO}),
    _translation("NLLB, a language of the manifest's", _NLLB, options=_INTO, parameters=_INTO),
    _translation("NLLB, beams", generator("m2m_100", "NllbTokenizer", says=BEAMS), parameters=_INTO),
    _translation("NLLB, a forced language", generator("m2m_100", "NllbTokenizer", says={"forced_bos_token_id": 340})),
    _translation("mBART-50", _MBART50, parameters={"src_lang": "en_XX", "tgt_lang": "ro_RO"}, task="translation"),
    _translation("mBART-25", _MBART25, parameters={"src_lang": "en_XX", "tgt_lang": "ro_RO"}, task="translation"),
    _translation("T5", _T5_PAIRS, parameters={"src_lang": "en", "tgt_lang": "fr"}, task="translation"),
    _refused("NLLB, a language it hasn't", _NLLB, "no language 'xxx_Latn'", options={"tgt_lang": "xxx_Latn"}),
]

GENERATION = [
    _kind("BART", bart()),
    _kind("BART, as for CNN", bart(**CNN)),
    _kind("BART, as for CNN, by transformers", bart(**CNN), options={"engine": "transformers"}),
    _kind("BART, forced first token", bart(forced_bos_token_id=0)),
    _kind("BART, forced last token", bart(forced_eos_token_id=2, max_length=8)),
    _kind("BART, forced last token, beams", bart(forced_eos_token_id=2, **BEAMS)),
    _kind("BART, beams", bart(**BEAMS)),
    _kind("BART, beams that stop early", bart(early_stopping=True, **BEAMS)),
    _kind("BART, beams that never stop early", bart(early_stopping="never", **BEAMS)),
    _kind("BART, length_penalty", bart(length_penalty=-2.0, **BEAMS)),
    _kind("BART, length_penalty, a whole number", bart(length_penalty=2, early_stopping=1, **BEAMS)),
    _kind("BART, repetition_penalty", bart(repetition_penalty=2.5)),
    _kind("BART, repetition_penalty, beams", bart(repetition_penalty=2.5, **BEAMS)),
    _kind("BART, no_repeat_ngram_size", bart(no_repeat_ngram_size=2)),
    _kind("BART, no_repeat_ngram_size, beams that renormalise", bart(no_repeat_ngram_size=2, renormalize_logits=True)),
    _kind("BART, min_length", bart(min_length=20)),
    _kind("BART, min_new_tokens and max_new_tokens", bart(min_new_tokens=9, max_new_tokens=12)),
    _kind("BART, suppress_tokens", bart(suppress_tokens=[20, 21, 22, 23, 24, 25])),
    _kind("BART, begin_suppress_tokens", bart(begin_suppress_tokens=list(range(60)))),
    _kind("BART, bad_words_ids", bart(bad_words_ids=[[i] for i in range(40, 90)] + [[20, 21]])),
    _kind("BART, encoder_no_repeat_ngram_size", bart(encoder_no_repeat_ngram_size=1)),
    _kind("BART, encoder_repetition_penalty", bart(encoder_repetition_penalty=3.0)),
    _kind("BART, exponential_decay_length_penalty", bart(exponential_decay_length_penalty=[5, 1.5])),
    _kind("BART, sequence_bias", bart(sequence_bias=[[[30], 50.0]])),
    _kind("BART, several end tokens", bart(eos_token_id=[2, *range(40, 120)])),
    _kind("BART, without generation_config.json", then(bart(), without("generation_config.json"))),
    _kind(
        "BART, config.json of old releases",
        then(bart(), without("generation_config.json"), change("config.json", **CNN, normalize_before=False)),
    ),
    _kind("BART, more tokens asked for than it has positions", bart(max_length=500), parameters={"max_new_tokens": 40}),
    _refused("BART, sampling", bart(do_sample=True), "do_sample is True"),
    _refused("BART, several answers", bart(num_return_sequences=2, num_beams=2), "num_return_sequences is 2"),
    _refused("BART, groups", then(bart(), change("generation_config.json", num_beam_groups=2)), "num_beam_groups"),
    _refused("BART, too many beams", bart(num_beams=99), "num_beams must be between"),
    _refused("BART, stop strings", bart(stop_strings=["x"]), "stop_strings"),
    _refused(
        "BART, nothing to begin with",
        then(bart(), change("generation_config.json", decoder_start_token_id=None, bos_token_id=None)),
        "decoder_start_token_id",
    ),
    _kind("Pegasus", generator("pegasus", "PegasusTokenizer", "pad")),
    _kind("Pegasus, beams", generator("pegasus", "PegasusTokenizer", "pad", says={"length_penalty": 0.8, **BEAMS})),
    _kind("PEGASUS-X", generator("pegasus_x", "PegasusTokenizer", "pad")),
    _refused("mBART, of no task", generator("mbart", "MBartTokenizer"), "name the task"),
    _kind("mBART", generator("mbart", "MBartTokenizer", scale_embedding=True), **MBART),
    _kind("LED", generator("led", "LEDTokenizer", attention_window=[8, 8], **LED)),
    _kind("T5", generator("t5", "T5Tokenizer", "pad")),
    _kind("flan-T5", generator("t5", "T5Tokenizer", "pad", feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
    _kind("T5, beams", generator("t5", "T5Tokenizer", "pad", says=BEAMS)),
    _kind("mT5", generator("mt5", "T5Tokenizer", "pad", feed_forward_proj="gated-gelu")),
    _kind("UMT5", generator("umt5", "T5Tokenizer", "pad", feed_forward_proj="gated-gelu")),
    _kind("LongT5", generator("longt5", "T5Tokenizer", "pad", local_radius=8)),
    _kind("bert2bert", bert2bert),
    *TRANSLATION,
]
