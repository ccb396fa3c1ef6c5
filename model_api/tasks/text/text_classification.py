"""Task `text-classification`: texts, or pairs of texts, to labels with scores, as transformers' pipeline gives them.

An input is a text, {"text", "text_pair"} or [text, text_pair].
A prediction is {"label", "score"}, the best label; with `top_k` or `all_labels`, or where the model is multi-label by
its config, also "labels": [{"label", "score"}], best first. Parameters: `top_k`, `all_labels`, and for over-long texts
`truncate` (cut) or `average` (classify window by window, mean of the scores); with neither they are refused.
The manifest's options: `labels` (a list that replaces the config's names), `truncate`, `max_tokens`,
`normalize_tweets`: @someone becomes @user, and an address http, as the tweet models were trained; and `pairs`: it is
asked about pairs, so that int8, whose kernels take no token types, isn't for it. Labels of inference say so too.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, WebSide
from model_api.tasks.options import EncoderOptions
from model_api.tasks.parameters import TextParameters, check_defaults, pointer_to, read_parameters
from model_api.tasks.text.encoder_task import EncoderTask
from model_api.tasks.text.labels import entailment_of, read_labels
from model_api.tasks.text.pair_frame import has_frame, write_frame
from model_api.tasks.text.pairs import PairTokenizer, TextPair, read_pair
from model_api.tasks.text.tokenization import TextTokenizer, check_text, read_json

_NO_TYPES = (
    "this model is served in int8, whose kernels take no token types, which pairs of texts have; publish it with"
    " --option pairs=true, or --option precision=float32"
)


def read_activation(folder: Path, n_labels: int) -> str:
    """What makes scores of the outputs: none, sigmoid or softmax; the rule is transformers' own."""
    kind = read_json(folder / "config.json", {}).get("problem_type")
    if kind == "regression":
        return "none"
    return "sigmoid" if kind == "multi_label_classification" or n_labels == 1 else "softmax"


def normalize_tweet(text: str) -> str:
    """Names of people and addresses as the tweet models saw them in training; everything else stays."""
    words = text.split(" ")
    words = ["@user" if len(word) > 1 and word.startswith("@") else word for word in words]
    return " ".join("http" if word.startswith("http") else word for word in words)


class ClassificationOptions(EncoderOptions):
    labels: list[str] | None = Field(None, min_length=1, description="Names of the outputs, in order.")
    normalize_tweets: bool = Field(False, description="@someone becomes @user, an address http.")
    pairs: bool = Field(False, description="It is asked about pairs of texts: not in int8 where these have types.")


class ClassificationParameters(TextParameters):
    average: bool = Field(False, description="Classify over-long texts window by window, and take the mean score.")
    top_k: int | None = Field(None, ge=1, le=100_000, description="Show so many of the best labels.")
    all_labels: bool = Field(False, description="Show every label. Default: true where the model is multi-label.")


class Label(BaseModel):
    label: str
    score: float


class Classification(Label):
    """The best label."""

    labels: list[Label] | None = Field(None, description="Best first, with top_k, all_labels or a multi-label model.")


class ClassificationWeb(WebSide):
    """Web side. A row is a text, a window of one, or a pair."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        self._tokenizer = TextTokenizer(folder, manifest.options, limits)
        self._pairs = PairTokenizer(self._tokenizer, folder) if has_frame(folder) else None
        self._limits = limits
        self._labels = read_labels(folder, manifest)
        multi_label = read_json(folder / "config.json", {}).get("problem_type") == "multi_label_classification"
        self._normalizes = bool(manifest.options.get("normalize_tweets", False))
        defaults = {"truncate": bool(manifest.options.get("truncate", False)), "all_labels": multi_label}
        self._defaults = check_defaults(ClassificationParameters, defaults)

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(ClassificationParameters, parameters, self._defaults)
        if read.top_k is not None and read.top_k > len(self._labels):
            raise InvalidInput(f"top_k must be between 1 and {len(self._labels)}", pointer_to("top_k"))
        if read.average and parameters.get("truncate"):
            raise InvalidInput("average and truncate exclude each other", pointer_to("average"))
        given = [read_pair(one, f"{pointer}/{index}") for index, one in enumerate(inputs)]
        if self._normalizes:
            given = [self._normalized(one) for one in given]
        rows, truncated = self._encoded(given, read)
        counts = [len(of_input) for of_input in rows]
        n_shown = read.top_k or (len(self._labels) if read.all_labels else 0)
        flat = [row for of_input in rows for row in of_input]
        costs = [row.shape[-1] for row in flat]
        return Prepared(flat, costs, {}, sum(costs), truncated, context=(counts, n_shown, pointer))

    def _normalized(self, one: TextPair) -> TextPair:
        texts = [one.first] if one.second is None else [one.first, one.second]
        for text, place in zip(texts, one.places, strict=False):
            check_text(text, place, self._limits.max_text_chars)
        first, second = [*map(normalize_tweet, texts), None][:2]
        return TextPair(first, second, one.places)

    def _encoded(
        self, given: Sequence[TextPair], read: ClassificationParameters
    ) -> tuple[list[list[Array]], Sequence[int]]:
        """Rows of each input, and which inputs were cut. Raises InvalidInput."""
        alone = [index for index, one in enumerate(given) if one.second is None]
        paired = [index for index, one in enumerate(given) if one.second is not None]
        rows: list[list[Array]] = [[] for _ in given]
        texts, places = [given[i].first for i in alone], [given[i].places[0] for i in alone]
        if read.average:
            if paired:
                raise InvalidInput("average is for single texts: a pair has no windows", given[paired[0]].places[1])
            return [list(windows) for windows in self._tokenizer.encode_windows(texts, places)], ()
        if paired and self._pairs is None:
            raise InvalidInput("this model's tokenizer makes no pairs of texts", given[paired[0]].places[1])
        tokens = self._tokenizer.encode(texts, places, read.truncate)
        for index, row in zip(alone, tokens.ids, strict=True):
            rows[index].append(row)
        truncated = [alone[i] for i in tokens.truncated]
        if self._pairs is not None and paired:
            joined, cut = self._pairs.encode([given[i] for i in paired], read.truncate)
            for index, row in zip(paired, joined, strict=True):
                rows[index].append(row)
            truncated += [paired[i] for i in cut]
        return rows, sorted(truncated)

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        counts, n_shown, pointer = prepared.context
        predictions, start = [], 0
        for index, count in enumerate(counts):
            if not outputs[start].size:
                raise InvalidInput(_NO_TYPES, f"{pointer}/{index}")
            scores = outputs[start] if count == 1 else np.mean(np.stack(outputs[start : start + count]), axis=0)
            predictions.append(self._prediction(np.asarray(scores, np.float32), n_shown))
            start += count
        return predictions

    def _prediction(self, scores: Array, n_shown: int) -> dict[str, Any]:
        order = np.argsort(-scores, kind="stable")
        ranked = [{"label": self._labels[i], "score": float(scores[i])} for i in order[: max(1, n_shown)]]
        return {**ranked[0], "labels": ranked} if n_shown else ranked[0]


class ClassificationModel(ModelSide):
    """Model side: float32 scores [n_labels] per row; [0] for a pair whose token types it can't take."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.classification_head import load_classifier

        labels = read_labels(folder, manifest)
        activation = read_activation(folder, len(labels))
        pairs = bool(manifest.options.get("pairs")) or entailment_of(labels) is not None
        loaded = load_classifier(folder, precision, len(labels), activation, pairs)
        self._classifier, self.precision_reason = loaded
        self.precision = self._classifier.precision

    def warm(self) -> None:
        self._classifier.warm()

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        taken = [row for row in arrays if self._classifier.takes(row)]
        scores = iter(self._classifier.scores(taken) if taken else ())
        return [next(scores) if self._classifier.takes(row) else np.empty(0, np.float32) for row in arrays]


class TextClassification(EncoderTask):
    parameters = ClassificationParameters
    prediction = Classification
    options = ClassificationOptions
    warm_inputs = (
        "warm",
        "A sentence of ordinary length to warm up with.",
        "What a lovely day! The train was on time and everybody smiled. " * 6,
        "naïve café, 東京, 🙂 and 1,234.56 in one text",
    )
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True}

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> ClassificationWeb:
        return ClassificationWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> ClassificationModel:
        return ClassificationModel(folder, manifest, precision)

    def settle(self, folder: Path) -> None:
        with contextlib.suppress(Refused):  # a tokenizer that makes no pairs: single texts are served all the same
            write_frame(folder)


TASK = TextClassification()
