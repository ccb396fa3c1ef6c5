import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from model_api.errors import InvalidInput, Refused
from model_api.repository.manifest import FileEntry, Manifest
from model_api.tasks.contract import Limits
from model_api.tasks.text.labels import read_labels
from model_api.tasks.text.text_classification import TASK, normalize_tweet
from tests.rigs.small_models import CONFIGS, save_small_model
from tests.rigs.small_tokenizers import save_small_tokenizer

LIMITS = Limits(max_text_chars=5000)
FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert"]
TEXTS = ["good", "the film was not very good!", "a bad, bad day; the train stood still for 3 hours", "x" * 40]
LONG = "the food was good and the day was not bad " * 20


def manifest(**options: Any) -> Manifest:
    return Manifest(
        "m", "1", "text-classification", (FileEntry("config.json", 1, "0" * 64),), memory_bytes=1, options=options
    )


def save(folder: Path, family: str, problem_type: str | None = None, n_labels: int = 3) -> None:
    def build(config: Any) -> Any:
        config.num_labels = n_labels
        config.problem_type = problem_type
        config.id2label = {i: f"kind {i}" for i in range(n_labels)}
        return transformers.AutoModelForSequenceClassification.from_config(config)

    save_small_model(family, folder, build)
    save_small_tokenizer(folder, max_tokens=64)


def ask(folder: Path, texts: list[str], parameters: dict[str, Any] | None = None, **options: Any) -> list[Any]:
    web, model = (
        TASK.open_web(folder, manifest(**options), LIMITS),
        TASK.load_model(folder, manifest(**options), "float32"),
    )
    prepared = web.prepare(texts, parameters or {})
    return web.finish(prepared, list(model.forward(prepared.arrays, prepared.parameters)))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    save(folder, "bert")
    return folder


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification", None])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_transformers_pipeline(family: str, problem_type: str | None, tmp_path: Path) -> None:
    save(tmp_path, family, problem_type)
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path), dtype="float32", device="cpu")
    wanted = pipeline([*TEXTS, LONG], top_k=None, truncation=True, max_length=64)
    got = ask(tmp_path, [*TEXTS, LONG], {"all_labels": True, "truncate": True})
    for ours, theirs in zip(got, wanted, strict=True):
        assert [row["label"] for row in ours["labels"]] == [row["label"] for row in theirs]
        assert [row["score"] for row in ours["labels"]] == pytest.approx([r["score"] for r in theirs], abs=1e-5)
        assert {"label": ours["label"], "score": ours["score"]} == ours["labels"][0]


def test_one_output_is_a_probability_and_regression_is_raw(tmp_path: Path) -> None:
    for kind, name in (("regression", "r"), (None, "p")):
        save(tmp_path / name, "bert", kind, n_labels=1)
        pipeline = transformers.pipeline("text-classification", model=str(tmp_path / name), device="cpu")
        wanted = [row["score"] for row in pipeline(TEXTS)]
        assert [row["score"] for row in ask(tmp_path / name, TEXTS)] == pytest.approx(wanted, abs=1e-5)


def test_another_architecture_is_served_by_transformers(tmp_path: Path) -> None:
    config = transformers.ElectraConfig(
        vocab_size=150, embedding_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=64, num_labels=3,
    )  # fmt: skip
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    save_small_tokenizer(tmp_path, max_tokens=64)
    wanted = transformers.pipeline("text-classification", model=str(tmp_path), device="cpu")(TEXTS)
    got = ask(tmp_path, TEXTS)
    assert [row["label"] for row in got] == [row["label"] for row in wanted]
    assert [row["score"] for row in got] == pytest.approx([row["score"] for row in wanted], abs=1e-5)


def test_only_the_best_label_unless_asked(bert: Path) -> None:
    (plain,) = ask(bert, TEXTS[:1])
    (two,) = ask(bert, TEXTS[:1], {"top_k": 2})
    assert set(plain) == {"label", "score"}
    assert len(two["labels"]) == 2
    assert two["labels"][0] == plain
    assert two["labels"][0]["score"] >= two["labels"][1]["score"]


def test_multi_label_models_show_all_labels(tmp_path: Path) -> None:
    save(tmp_path, "bert", "multi_label_classification")
    (row,) = ask(tmp_path, TEXTS[:1])
    assert sorted(entry["label"] for entry in row["labels"]) == ["kind 0", "kind 1", "kind 2"]


def test_the_same_to_the_bit_alone_and_in_a_batch(bert: Path) -> None:
    web, model = TASK.open_web(bert, manifest(), LIMITS), TASK.load_model(bert, manifest(), "bfloat16")
    arrays = web.prepare(TEXTS * 3, {}).arrays
    together = model.forward(arrays, {})
    for array, scores in zip(arrays, together, strict=True):
        assert model.forward([array], {})[0].tobytes() == scores.tobytes()


def test_long_texts_are_refused_cut_or_averaged(bert: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        ask(bert, ["good", LONG])
    assert refused.value.pointer == "/inputs/1"
    web, model = TASK.open_web(bert, manifest(), LIMITS), TASK.load_model(bert, manifest(), "float32")
    prepared = web.prepare(["good", LONG, "bad"], {"average": True, "all_labels": True})
    assert all(len(row) <= 64 for row in prepared.arrays)
    assert len(prepared.arrays) > 4
    outputs = list(model.forward(prepared.arrays, {}))
    averaged = web.finish(prepared, outputs)[1]
    mean = np.mean(np.stack(outputs[1:-1]), axis=0)
    assert {r["label"]: r["score"] for r in averaged["labels"]} == pytest.approx(
        {f"kind {i}": float(mean[i]) for i in range(3)}
    )
    (cut,) = ask(bert, [LONG], {"truncate": True})
    assert cut["score"] != averaged["score"]


def test_windows_hold_the_whole_text(bert: Path) -> None:
    words = [f"{chr(97 + i % 26)}{i}" for i in range(90)]
    web = TASK.open_web(bert, manifest(), LIMITS)
    rows = web.prepare([" ".join(words)], {"average": True}).arrays
    whole = transformers.AutoTokenizer.from_pretrained(bert)(" ".join(words), add_special_tokens=False)["input_ids"]
    assert {len(row) for row in rows} == {64}
    inner = [row[1:-1].tolist() for row in rows]
    assert inner[0] == whole[:62]
    assert inner[-1] == whole[-62:]
    assert all(row[0] == 0 and row[-1] == 2 for row in rows)


def test_tweets_are_normalised_where_the_manifest_says_so(bert: Path) -> None:
    assert normalize_tweet("@anna and @ see https://a.example/b now") == "@user and @ see http now"
    assert ask(bert, ["@anna good http://x.example"], normalize_tweets=True) == ask(bert, ["@user good http"])
    assert ask(bert, ["@anna good"]) != ask(bert, ["@user good"])
    with pytest.raises(InvalidInput) as refused:
        ask(bert, ["good", 7], normalize_tweets=True)  # type: ignore[list-item]
    assert refused.value.pointer == "/inputs/1"


@pytest.mark.parametrize(
    ("parameters", "pointer"),
    [
        ({"top_k": 0}, "/parameters/top_k"),
        ({"top_k": 4}, "/parameters/top_k"),
        ({"top_k": True}, "/parameters/top_k"),
        ({"all_labels": 1}, "/parameters/all_labels"),
        ({"normalize": True}, "/parameters/normalize"),
        ({"average": True, "truncate": True}, "/parameters/average"),
    ],
    ids=str,
)
def test_bad_parameters(bert: Path, parameters: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        TASK.open_web(bert, manifest(), LIMITS).prepare(TEXTS, parameters)
    assert refused.value.pointer == pointer


def test_labels_come_from_the_manifest_the_config_or_a_number(bert: Path, tmp_path: Path) -> None:
    assert read_labels(bert, manifest()) == ["kind 0", "kind 1", "kind 2"]
    assert read_labels(bert, manifest(labels=["a", "b", "c"])) == ["a", "b", "c"]
    with pytest.raises(Refused, match="2 labels for 3 outputs"):
        read_labels(bert, manifest(labels=["a", "b"]))
    (tmp_path / "config.json").write_text("{}")
    assert read_labels(tmp_path, manifest()) == ["LABEL_0", "LABEL_1"]
    for bad in ({"0": "a", "2": "b"}, {"x": "a"}, ["a"]):
        (tmp_path / "config.json").write_text(json.dumps({"id2label": bad}))
        with pytest.raises(Refused, match="id2label"):
            read_labels(tmp_path, manifest())


def test_a_head_that_does_not_fit_is_refused(bert: Path) -> None:
    config = json.loads((bert / "config.json").read_text())
    config["id2label"] = {"0": "a", "1": "b"}
    other = bert.parent / "misfit"
    other.mkdir()
    for path in bert.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(Refused, match=r"classifier\.weight"):
        TASK.load_model(other, manifest(), "float32")


def test_built_in_texts_fit_any_model(bert: Path) -> None:
    assert len(ask(bert, list(TASK.warm_inputs), {"truncate": True})) == len(TASK.warm_inputs)
    assert set(CONFIGS) >= set(FAMILIES)
