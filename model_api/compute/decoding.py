"""Going on with a text, token by token: a decoder by CTranslate2, or by transformers. Model side only.

Greedy search and beams are deterministic. One row at a time and unpadded: what a row becomes depends on nothing else.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from model_api.compute.generation import NOT_FINITE
from model_api.compute.processor import available_cores

NO_TOKEN = 2**31 - 1  # for a model that no token ends: an empty list would mean the converted model's own

OnToken = Callable[[int], bool]
"""Told of each new token but in a beam search; whether to end there."""


@dataclass(frozen=True)
class Decoding:
    """How to go on. Lengths in tokens, an end token included; `max_length` with the prompt. `temperature` 0 is greedy.
    With a `seed` a sample can be had again. `end_ids` end a row."""

    max_new_tokens: int
    min_new_tokens: int
    max_length: int
    num_beams: int
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    repetition_penalty: float
    no_repeat_ngram_size: int
    stop: Sequence[str]
    end_ids: Sequence[int]

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "Decoding":
        return cls(**parameters)

    @property
    def looks_at_the_prompt(self) -> bool:
        """Whether what is generated depends on which tokens occurred, beside the model's own view of them."""
        return self.repetition_penalty != 1 or self.no_repeat_ngram_size > 0


class Decoder(Protocol):
    precision: str

    def generate(
        self, ids: Sequence[int], n_done: int, at_most: int, how: Decoding, seed: int | None, on_token: OnToken
    ) -> list[int]:
        """At most `at_most` tokens that follow `ids`, the last `n_done` of which were generated before; an end token is
        the last of them. Raises FloatingPointError where the model gives NaN."""


class CTranslate2Decoder:
    """Make it after the last fork: CTranslate2 starts threads and doesn't survive a fork. What depends on the tokens
    that occurred is transformers' to compute (CTranslate2 leaves the prompt out): `fall_back` makes that, once."""

    def __init__(self, folder: Path, precision: str, fall_back: Callable[[], Decoder]) -> None:
        self._folder = folder
        self.precision = precision
        self._make_fall_back = fall_back
        self._fall_back: Decoder | None = None
        self._generator: Any = self._open()

    def _open(self) -> Any:
        import ctranslate2

        return ctranslate2.Generator(
            str(self._folder),
            device="cpu",
            compute_type=self.precision,
            inter_threads=1,
            intra_threads=available_cores(),
        )

    def generate(
        self, ids: Sequence[int], n_done: int, at_most: int, how: Decoding, seed: int | None, on_token: OnToken
    ) -> list[int]:
        """See Decoder."""
        if how.looks_at_the_prompt:
            self._fall_back = self._fall_back or self._make_fall_back()
            return self._fall_back.generate(ids, n_done, at_most, how, seed, on_token)
        if seed is not None:
            self._start_again(seed)
        sampling: dict[str, Any] = {}
        if how.temperature:
            sampling = {"sampling_temperature": how.temperature}
            sampling |= {"sampling_topk": how.top_k, "sampling_topp": how.top_p}
        callback = None if how.num_beams > 1 else lambda step: on_token(step.token_id)
        result = self._generator.generate_batch(
            [[str(token) for token in ids]],
            beam_size=how.num_beams,
            min_length=max(0, how.min_new_tokens - n_done) if how.end_ids else 0,
            max_length=at_most,
            end_token=list(how.end_ids) or [NO_TOKEN],
            return_end_token=True,
            return_scores=True,
            include_prompt_in_result=False,
            callback=callback,
            **sampling,
        )[0]
        if not math.isfinite(result.scores[0]):
            raise FloatingPointError(NOT_FINITE)
        return [int(token) for token in result.sequences_ids[0]]

    def _start_again(self, seed: int) -> None:
        """A thread of CTranslate2's takes a seed once, before its first draw: the model is loaded anew, in place."""
        import ctranslate2

        self._generator = None
        ctranslate2.set_random_seed(seed)
        self._generator = self._open()


class TransformersDecoder:
    """The reference, and the fall-back for what CTranslate2 doesn't compute. float32."""

    precision = "float32"

    def __init__(self, folder: Path) -> None:
        """Raises Refused where transformers can't make a decoder of the folder."""
        from transformers import GenerationConfig

        from model_api.compute.decoder_conversion import check_decoder_notes
        from model_api.compute.transformers_encoder import load_pretrained

        model, notes = load_pretrained("AutoModelForCausalLM", folder, "float32")
        check_decoder_notes(notes, model)
        model.generation_config = GenerationConfig()  # all of it comes with each request
        self._model = model.eval()

    def generate(
        self, ids: Sequence[int], n_done: int, at_most: int, how: Decoding, seed: int | None, on_token: OnToken
    ) -> list[int]:
        """See Decoder."""
        import torch

        def check(_: Any, scores: Any) -> Any:
            if scores.isnan().any():
                raise FloatingPointError(NOT_FINITE)
            return scores

        def ends(sequences: Any, _: Any, **__: Any) -> Any:
            return torch.full((len(sequences),), how.num_beams == 1 and on_token(int(sequences[0, -1])))

        arguments: dict[str, Any] = {
            "logits_processor": [check],
            "stopping_criteria": [ends],
            "num_beams": how.num_beams,
            "do_sample": how.temperature > 0,
            "min_new_tokens": max(0, how.min_new_tokens - n_done),
            "max_new_tokens": at_most,
            "repetition_penalty": how.repetition_penalty,
            "no_repeat_ngram_size": how.no_repeat_ngram_size,
            "eos_token_id": list(how.end_ids) or None,
            "pad_token_id": how.end_ids[0] if how.end_ids else 0,
        }
        if how.num_beams > 1:
            arguments |= {"early_stopping": True, "renormalize_logits": True}
        if how.temperature:
            arguments |= {"temperature": how.temperature, "top_k": how.top_k, "top_p": how.top_p}
        if seed is not None:
            torch.manual_seed(seed)
        prompt = torch.tensor([list(ids)])
        with torch.inference_mode():
            made = self._model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), **arguments)
        return [int(token) for token in made[0, len(ids) :]]
