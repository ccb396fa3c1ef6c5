"""What a sequence-to-sequence model's own files say of how it generates: generation_config.json, and of folders older
than that file, config.json. As transformers' `generate` reads them; what can't be honoured is named.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from model_api.repository.problem import Problem

GENERATION_FILE = "generation_config.json"

# transformers' default of what would change the answer's nature, and why another value isn't served.
_REFUSED: Mapping[str, tuple[Any, str]] = {
    "do_sample": (False, "answers are to repeat; a caller samples with the parameter temperature"),
    "num_return_sequences": (1, "an input gets one answer"),
    "num_beam_groups": (1, "transformers 5 has no group beam search"),
    "diversity_penalty": (0.0, "transformers 5 has no group beam search"),
    "penalty_alpha": (0.0, "transformers 5 has no contrastive search"),
    "dola_layers": (None, "transformers 5 has no DoLa"),
    "force_words_ids": (None, "transformers 5 has no constrained search"),
    "constraints": (None, "transformers 5 has no constrained search"),
    "stop_strings": (None, "texts end with a token"),
    "max_time": (None, "a limit of time would make answers depend on the machine"),
    "guidance_scale": (1.0, "it is for decoders alone"),
    "watermarking_config": (None, "answers carry no watermark"),
    "token_healing": (False, "it is for decoders alone"),
}
# Only transformers knows these: a model that sets one is served by it.
_BY_TRANSFORMERS: Mapping[str, Any] = {
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "exponential_decay_length_penalty": None,
    "sequence_bias": None,
    "begin_suppress_tokens": None,
    "remove_invalid_values": False,
}
_SAME_NAME = ("num_beams", "length_penalty", "no_repeat_ngram_size", "repetition_penalty", "early_stopping")


@dataclass(frozen=True)
class GenerationSettings:
    """`search`: defaults of a request's parameters. `end_ids` end a text; `forbidden` are sequences of ids that are
    never generated. `renormalize`: what a constraint forbids has no probability, so that the rest has all of it.
    `only_transformers`: what is set that nothing else knows."""

    search: Mapping[str, Any] = field(default_factory=dict)
    start_id: int | None = None
    end_ids: tuple[int, ...] = ()
    forced_bos_id: int | None = None
    forced_eos_id: int | None = None
    forbidden: tuple[tuple[int, ...], ...] = ()
    renormalize: bool = True
    only_transformers: tuple[str, ...] = ()

    @classmethod
    def of(cls, generation: Any, config: Mapping[str, Any]) -> GenerationSettings:
        """Of generation_config.json's content, None where there is none, and config.json's."""
        own = _own(generation, config)
        search = {name: own[name] for name in _SAME_NAME if own.get(name) is not None}
        for new, whole in (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length")):
            if own.get(new) is not None:
                search[new] = own[new]
            elif isinstance(own.get(whole), int):  # with the start token
                search[new] = max(own[whole] - 1, 1 if new == "max_new_tokens" else 0)
        if search.get("num_beams", 1) != 1:
            search.setdefault("early_stopping", False)
        start = own.get("decoder_start_token_id", own.get("bos_token_id"))
        forbidden = [[token] for token in own.get("suppress_tokens") or ()]
        forbidden += [list(word) for word in own.get("bad_words_ids") or ()]
        return cls(
            search,
            start if isinstance(start, int) else None,
            tuple(_ids(own.get("eos_token_id"))),
            next(iter(_ids(own.get("forced_bos_token_id"))), None),
            next(iter(_ids(own.get("forced_eos_token_id"))), None),
            tuple(tuple(word) for word in forbidden),
            bool(own.get("renormalize_logits", own.get("num_beams", 1) == 1)),
            tuple(sorted(name for name, off in _BY_TRANSFORMERS.items() if own.get(name) not in (None, off))),
        )


def _own(generation: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """config.json speaks where there is no generation_config.json; its decoder's part for what it leaves open."""
    if isinstance(generation, dict):
        return {key: value for key, value in generation.items() if value is not None}
    decoder = config.get("decoder")
    parts = [decoder if isinstance(decoder, dict) else {}, config]
    return {key: value for part in parts for key, value in part.items() if value is not None}


def _ids(value: Any) -> list[int]:
    listed = value if isinstance(value, list) else [value]
    return [one for one in listed if isinstance(one, int) and not isinstance(one, bool)]


def judge_generation(generation: Any, config: Mapping[str, Any]) -> Iterator[Problem]:
    """What of it can't be honoured."""
    path = GENERATION_FILE if isinstance(generation, dict) else "config.json"
    own = _own(generation, config)
    for name, (default, why) in _REFUSED.items():
        value = own.get(name)
        if value is not None and value != default and not (default is None and not value):
            yield Problem(path, f"{name} is {str(value)[:60]}, which is not served: {why}")
            return
    try:
        settings = GenerationSettings.of(generation, config)
    except TypeError:
        yield Problem(path, "suppress_tokens is no list of ids, or bad_words_ids no list of lists")
        return
    if settings.start_id is None:
        yield Problem(path, "decoder_start_token_id is no id, so that nothing says what a text begins with")
    if any(not word or len(_ids(list(word))) != len(word) for word in settings.forbidden):
        yield Problem(path, "suppress_tokens is no list of ids, or bad_words_ids no list of lists")
