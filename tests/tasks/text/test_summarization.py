import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from model_api.compute.conversion import why_not_convertible
from model_api.compute.generation import SAMPLED_AT_A_TIME, Search
from model_api.errors import InvalidInput, Refused
from model_api.repository.generation_settings import GenerationSettings
from model_api.repository.manifest import FileEntry, Manifest
from model_api.tasks.contract import Limits
from model_api.tasks.text.generation_parameters import generation_defaults
from model_api.tasks.text.summarization import TASK
from tests.rigs.leader import Leader
from tests.rigs.small_models import save_small_t5
from tests.rigs.small_tokenizers import save_small_tokenizer

LIMITS = Limits(max_text_chars=2000)
TEXTS = ["the film was good", "a bad day and a good train, not very 123", "abc " * 12, "food", "the day was very bad"]


def manifest(**options: Any) -> Manifest:
    return Manifest("t5", "1", "summarization", (FileEntry("config.json", 1, "0" * 64),), 1, options)


@pytest.fixture(scope="module", params=[False, True], ids=["t5", "t5-v1.1"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("t5")
    model = save_small_t5(folder, gated=request.param)
    save_small_tokenizer(folder, max_tokens=64, ends="t5")
    return folder, model


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    save_small_t5(folder)
    save_small_tokenizer(folder, max_tokens=64, ends="t5")
    return folder


class InLane:
    """The model as a lane has it, after a leader's checks."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.web = TASK.open_web(folder, manifest(**options), LIMITS)
        self.model = Leader(folder, manifest(**options))

    def __enter__(self) -> "InLane":
        return self

    def __exit__(self, *error: object) -> None:
        self.model.__exit__(*error)

    def ids(self, texts: list[str], **parameters: Any) -> list[list[int]]:
        prepared = self.web.prepare(texts, parameters)
        return [row.tolist() for row in self.model.forward(prepared.arrays, prepared.parameters)]

    def ask(self, texts: list[str], **parameters: Any) -> list[Any]:
        prepared = self.web.prepare(texts, parameters)
        return self.web.finish(prepared, self.model.forward(prepared.arrays, prepared.parameters))


SEARCHES: list[dict[str, Any]] = [
    {},
    {"min_new_tokens": 8},
    {"num_beams": 4},
    {"num_beams": 4, "length_penalty": 2.0, "min_new_tokens": 5},
    {"num_beams": 3, "no_repeat_ngram_size": 3},
]


def reference_ids(reference: Any, folder: Path, text: str, search: dict[str, Any]) -> list[int]:
    ids = transformers.AutoTokenizer.from_pretrained(folder)("sum " + text, return_tensors="pt")["input_ids"]
    beam_only = {"early_stopping": True, "renormalize_logits": True} if search.get("num_beams", 1) > 1 else {}
    with torch.inference_mode():
        new = reference.generate(ids, do_sample=False, max_new_tokens=20, **search, **beam_only)
    return [int(token) for token in new[0, 1:]]


@pytest.mark.parametrize("engine", ["ctranslate2", "transformers"])
def test_the_same_tokens_as_transformers(either: tuple[Path, Any], engine: str) -> None:
    folder, reference = either
    with InLane(folder, precision="float32", engine=engine) as lane:
        assert lane.model.precision == "float32"
        for search in SEARCHES:
            wanted = [reference_ids(reference, folder, text, search) for text in TEXTS]
            assert lane.ids(TEXTS, max_new_tokens=20, **search) == wanted, search
            assert [lane.ids([text], max_new_tokens=20, **search)[0] for text in TEXTS] == wanted, search


def test_int8_is_the_default_and_repeats_itself(t5: Path) -> None:
    with InLane(t5) as lane:
        assert lane.model.precision == "int8"
        assert lane.ask(TEXTS, num_beams=2) == lane.ask(TEXTS, num_beams=2)


def test_a_conversion_is_made_once_and_keyed_by_version_and_type(tmp_path: Path) -> None:
    save_small_t5(tmp_path)
    save_small_tokenizer(tmp_path, max_tokens=64, ends="t5")
    with InLane(tmp_path, precision="float32"):
        (made,) = (tmp_path / ".converted").iterdir()
    assert made.name == f"ctranslate2-{version('ctranslate2')}-2-float32"
    before = (made / "model.bin").stat()
    with InLane(tmp_path, precision="float32"):
        assert (made / "model.bin").stat() == before
    with InLane(tmp_path, precision="int8"):
        assert len(list((tmp_path / ".converted").iterdir())) == 2


def test_predictions_say_how_they_ended(t5: Path) -> None:
    with InLane(t5, precision="float32") as lane:
        rows = lane.ask(TEXTS, max_new_tokens=5)
        assert [set(row) for row in rows] == [{"text", "tokens", "finish_reason"}] * len(TEXTS)
        assert all(row["tokens"] == 5 for row in rows if row["finish_reason"] == "length")
        end = lane.web.finish(lane.web.prepare(["x"], {}), [np.array([40, 41, 2], np.int32)])
    assert (end[0]["finish_reason"], end[0]["tokens"]) == ("stop", 3)


@pytest.mark.parametrize("engine", ["ctranslate2", "transformers"])
def test_a_sample_depends_on_its_seed_and_text_alone(t5: Path, engine: str) -> None:
    with InLane(t5, precision="float32", engine=engine) as lane:
        first = lane.ids(TEXTS[:3], temperature=1.0, seed=5, max_new_tokens=12)
        assert lane.ids(TEXTS[:3], temperature=1.0, seed=5, max_new_tokens=12) == first
        assert lane.ids(TEXTS[1:2], temperature=1.0, seed=5, max_new_tokens=12) == first[1:2]
        assert lane.ids(TEXTS[:3], temperature=1.0, seed=6, max_new_tokens=12) != first
        unseeded = {str(lane.ids(TEXTS[:1], temperature=1.0, max_new_tokens=12)) for _ in range(4)}
    assert len(unseeded) > 1


def test_more_samples_than_are_drawn_at_a_time(t5: Path) -> None:
    texts = [text + " food" * n for n in range(2) for text in TEXTS]
    assert len(texts) > SAMPLED_AT_A_TIME
    search: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_new_tokens": 12}
    with InLane(t5, precision="float32") as lane:
        greedy = lane.ids(texts)
        together = lane.ids(texts, **search)
        assert together == [lane.ids([text], **search)[0] for text in texts]
        assert lane.ids(texts[::-1], **search) == together[::-1]
        assert lane.ids(texts) == greedy


def test_only_what_repeats_may_be_cached(t5: Path) -> None:
    web = TASK.open_web(t5, manifest(), LIMITS)
    assert web.repeatable({})
    assert web.repeatable({"temperature": 1.0, "seed": 1})
    assert not web.repeatable({"temperature": 1.0})


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"max_new_tokens": 10_000}, "/parameters/max_new_tokens"),
        ({"max_new_tokens": 0}, "/parameters/max_new_tokens"),
        ({"min_new_tokens": 65}, "/parameters/min_new_tokens"),
        ({"num_beams": 9}, "/parameters/num_beams"),
        ({"num_beams": 1.0}, "/parameters/num_beams"),
        ({"temperature": 0}, "/parameters/temperature"),
        ({"temperature": 1.0, "num_beams": 2}, "/parameters/num_beams"),
        ({"temperature": 1.0, "seed": -1}, "/parameters/seed"),
        ({"seed": 1}, "/parameters/seed"),
        ({"top_p": 0.5}, "/parameters/top_p"),
    ],
    ids=str,
)
def test_bad_parameters(t5: Path, parameters: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        TASK.open_web(t5, manifest(), LIMITS).prepare(TEXTS, parameters)
    assert refused.value.pointer == pointer


def test_a_bad_article_is_named_and_nothing_is_dropped(t5: Path) -> None:
    web = TASK.open_web(t5, manifest(), LIMITS)
    for bad in ("", " \n", 3, None, "x" * 2001, "word " * 100):
        with pytest.raises(InvalidInput) as refused:
            web.prepare(["fine", bad], {})
        assert refused.value.pointer == "/inputs/1"
    cut = web.prepare(["fine", "word " * 100], {"truncate": True})
    assert (cut.truncated, len(cut.arrays), len(cut.arrays[1])) == ([1], 2, 64)


def test_prefix_and_defaults_come_from_the_manifest(t5: Path) -> None:
    plain = TASK.open_web(t5, manifest(prefix=""), LIMITS).prepare(["food"], {})
    own = TASK.open_web(t5, manifest(), LIMITS).prepare(["food"], {})
    assert len(own.arrays[0]) > len(plain.arrays[0])
    chosen = TASK.open_web(t5, manifest(generation={"num_beams": 4, "max_new_tokens": 9}), LIMITS).prepare(["food"], {})
    search = Search.of(chosen.parameters)
    assert (search.num_beams, search.max_new_tokens, search.seed) == (4, 9, None)
    for bad in ({"num_beams": 99}, {"unknown": 1}, 7):
        with pytest.raises(Refused, match="generation"):
            generation_defaults(manifest(generation=bad), GenerationSettings(), None)


def test_what_ctranslate2_does_not_know_is_served_by_transformers(tmp_path: Path) -> None:
    config = transformers.LongT5Config(
        vocab_size=150, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, local_radius=8,
        pad_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    transformers.LongT5ForConditionalGeneration(config).save_pretrained(tmp_path)
    save_small_tokenizer(tmp_path, max_tokens=64, ends="t5")
    with InLane(tmp_path) as lane:
        assert lane.model.precision == "float32"
        assert all(row["tokens"] <= 6 for row in lane.ask(TEXTS, max_new_tokens=6))


@pytest.mark.parametrize("options", [{"precision": "int4"}, {"engine": "other"}], ids=str)
def test_unknown_precision_or_engine_is_refused(t5: Path, options: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=json.dumps(next(iter(options.values()))).replace('"', "'")):
        TASK.load_model(t5, manifest(**options), "auto")


@pytest.mark.parametrize("search", [{}, {"num_beams": 2}, {"seed": 3, "temperature": 1.0}], ids=str)
def test_a_model_that_gives_nan_on_the_way_gives_no_summary(tmp_path: Path, search: dict[str, Any]) -> None:
    model = save_small_t5(tmp_path)
    save_small_tokenizer(tmp_path, max_tokens=64, ends="t5")
    with torch.no_grad():  # what a token gives to those more than 15 before it
        model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight[16:] = np.nan
    model.save_pretrained(tmp_path)
    with InLane(tmp_path, precision="float32", engine="transformers", generation={"max_new_tokens": 8}) as lane:
        assert len(lane.ask(["the film was good"], **search)) == 1
        with pytest.raises(AssertionError, match=r"FloatingPointError at generation\.py"):  # what the lane answers
            lane.ask(["the film was good"], min_new_tokens=24, max_new_tokens=32, **search)


def test_a_long_article_is_refused_cut_or_read_by_windows(t5: Path) -> None:
    web = TASK.open_web(t5, manifest(), LIMITS)
    article = "the train was good and the day was bad " * 12
    for refusing in ({}, {"long_input": "refuse"}, {"long_input": "refuse", "truncate": True}):
        with pytest.raises(InvalidInput, match="the model takes 64"):
            web.prepare(["food", article], refusing)
    for cutting in ({"truncate": True}, {"long_input": "truncate"}):
        cut = web.prepare(["food", article], cutting)
        assert (len(cut.arrays), cut.truncated) == (2, [1])
    windows = web.prepare(["food", article, "day"], {"long_input": "windows"})
    assert (len(windows.arrays), windows.truncated) == (4, []) or len(windows.arrays) > 4
    prefix = windows.arrays[0][: len(windows.arrays[0]) - 2].tolist()  # but for "food" and the end
    assert all(row[: len(prefix)].tolist() == prefix and row[-1] == 2 for row in windows.arrays)
    assert all(len(row) <= 64 for row in windows.arrays)
    outputs = [np.array([40 + i, 2], np.int32) for i in range(len(windows.arrays))]
    food, long, day = web.finish(windows, outputs)
    assert (food["tokens"], day["tokens"], long["tokens"]) == (2, 2, 2 * (len(outputs) - 2))
    assert long["text"].count(" ") == len(outputs) - 3
    assert long["finish_reason"] == "stop"
    outputs[1] = np.array([40, 41], np.int32)
    assert [row["finish_reason"] for row in web.finish(windows, outputs)] == ["stop", "length", "stop"]


def test_windows_are_the_manifests_choice_too_and_are_bounded(t5: Path) -> None:
    web = TASK.open_web(t5, manifest(long_input="windows"), Limits(max_text_chars=10**6))
    assert len(web.prepare(["bad " * 100], {}).arrays) > 1
    assert len(web.prepare(["bad " * 100], {"truncate": True}).arrays) == 1
    with pytest.raises(InvalidInput, match="at most 200") as refused:
        web.prepare(["bad " * 20_000], {})
    assert refused.value.pointer == "/parameters/long_input"


def test_a_conversion_that_fails_leaves_its_reason_and_transformers_serves(tmp_path: Path) -> None:
    config = transformers.BartConfig(
        vocab_size=150, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
        pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, activation_function="mish",
    )  # fmt: skip
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path)
    save_small_tokenizer(tmp_path, max_tokens=64)
    with InLane(tmp_path) as lane:
        assert lane.model.precision == "float32"
        assert lane.ask(["food"], max_new_tokens=6)[0]["tokens"] <= 6
    assert "mish" in why_not_convertible(tmp_path, "int8")
    assert not TASK.needs_conversion(tmp_path, manifest(), "auto")


def test_a_sample_of_a_model_whose_first_token_is_forced(tmp_path: Path) -> None:
    model = save_small_t5(tmp_path)
    model.generation_config.forced_bos_token_id = 40
    model.generation_config.forced_eos_token_id = 2
    model.save_pretrained(tmp_path)
    save_small_tokenizer(tmp_path, max_tokens=64, ends="t5")
    with InLane(tmp_path, precision="float32") as lane:
        sample = {"temperature": 1.0, "seed": 5}
        rows = lane.ids(TEXTS[:3], max_new_tokens=6, **sample)
        assert [row[0] for row in rows] == [40] * 3
        assert rows == lane.ids(TEXTS[:3], max_new_tokens=6, **sample)
        assert all(row[-1] == 2 for row in rows)
        assert lane.ids(TEXTS[:2], max_new_tokens=1, **sample) == [[2]] * 2
        assert lane.ask(TEXTS[:1], max_new_tokens=1)[0]["finish_reason"] == "length"


def test_more_new_tokens_than_a_decoder_has_positions_are_refused(tmp_path: Path) -> None:
    config = transformers.BartConfig(
        vocab_size=150, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32,
        pad_token_id=1, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path)
    save_small_tokenizer(tmp_path, max_tokens=32)
    web = TASK.open_web(tmp_path, manifest(), LIMITS)
    assert web.prepare(["food"], {}).parameters["max_new_tokens"] == 32
    with pytest.raises(InvalidInput, match="32 tokens at most") as refused:
        web.prepare(["food"], {"max_new_tokens": 33})
    assert refused.value.pointer == "/parameters/max_new_tokens"
