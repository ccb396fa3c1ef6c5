"""Task `zero-shot-classification`: which of the caller's own labels a text fits, asked of a model of inference (NLI).

Every label becomes a hypothesis, which follows from the text or doesn't. A prediction is {"sequence", "labels",
"scores"}, best first, as transformers' pipeline gives it. Parameters: `candidate_labels`, `hypothesis_template`, whose
{} is the label, and `multi_label`: each label judged by itself, instead of scores that add up to 1.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from model_api.errors import InvalidInput, Refused
from model_api.repository.known_tasks import NO_ENTAILMENT
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, WebSide
from model_api.tasks.options import EncoderOptions
from model_api.tasks.parameters import TextParameters, check_defaults, pointer_to, read_parameters
from model_api.tasks.text.encoder_task import EncoderTask
from model_api.tasks.text.labels import entailment_of, read_labels
from model_api.tasks.text.pair_frame import write_frame
from model_api.tasks.text.pairs import PairTokenizer
from model_api.tasks.text.tokenization import TextTokenizer, check_text, read_json

MAX_LABELS = 500
MAX_LABEL_CHARS = 500
MAX_TEMPLATE_CHARS = 1000
MAX_PAIRS = 10_000  # of one request, texts times labels: each is a row for the encoder


def entailment(folder: Path, manifest: Manifest) -> tuple[int, int]:
    """How many outputs there are, and which of them says that one text follows from another. Raises Refused where the
    labels don't tell."""
    labels = read_labels(folder, manifest)
    own = read_json(folder / "config.json", {}).get("label2id")
    found = entailment_of(labels)
    if "labels" not in manifest.options and isinstance(own, dict):  # what the library looks at
        told = [index for label, index in own.items() if label.lower().startswith("entail")]
        found = told[0] if told and isinstance(told[0], int) and 0 <= told[0] < len(labels) else found
    if found is None or len(labels) < 2:
        raise Refused("config.json", NO_ENTAILMENT.format(", ".join(labels[:5])))
    return len(labels), found


class ZeroShotOptions(EncoderOptions):
    labels: list[str] | None = Field(None, min_length=2, description="Names of the outputs, one of them entailment.")
    candidate_labels: list[str] | None = Field(
        None, min_length=1, max_length=MAX_LABELS, description="What holds where a caller names none."
    )
    hypothesis_template: str | None = Field(
        None, max_length=MAX_TEMPLATE_CHARS, description="What holds where a caller sends none."
    )


class ZeroShotParameters(TextParameters):
    candidate_labels: list[str] | None = Field(
        None, min_length=1, max_length=MAX_LABELS, description="The labels to choose among."
    )
    hypothesis_template: str = Field(
        "This example is {}.", max_length=MAX_TEMPLATE_CHARS, description="The sentence to judge; {} is the label."
    )
    multi_label: bool = Field(False, description="Judge each label by itself: several may hold, or none.")


class ZeroShot(BaseModel):
    """Labels with their scores, best first."""

    sequence: str
    labels: list[str]
    scores: list[float]


class ZeroShotWeb(WebSide):
    """Web side. A row is a text with a hypothesis: [2, length], ids and token types."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        _, self._entailment = entailment(folder, manifest)
        self._tokenizer = TextTokenizer(folder, manifest.options, limits, MAX_TEMPLATE_CHARS + MAX_LABEL_CHARS)
        self._pairs = PairTokenizer(self._tokenizer, folder)
        self._limits = limits
        options = manifest.options
        defaults = {"truncate": bool(options.get("truncate", False))}
        defaults |= {name: options[name] for name in ("candidate_labels", "hypothesis_template") if options.get(name)}
        self._defaults = check_defaults(ZeroShotParameters, defaults)

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(ZeroShotParameters, parameters, self._defaults)
        labels = _checked_labels(read)
        if len(inputs) * len(labels) > MAX_PAIRS:
            told = f"{len(inputs)} texts with {len(labels)} labels each, at most {MAX_PAIRS:,} pairs are accepted"
            raise InvalidInput(f"{told}; send the texts in several requests", pointer_to("candidate_labels"))
        for index, text in enumerate(inputs):
            check_text(text, f"{pointer}/{index}", self._limits.max_text_chars)
        before, after = read.hypothesis_template.split("{}")
        hypotheses = [f"{before}{label}{after}" for label in labels]
        places = [f"{pointer_to('candidate_labels')}/{number}" for number in range(len(labels))]
        seconds = self._tokenizer.encode_bare(hypotheses, places)
        for second, place in zip(seconds, places, strict=True):
            if len(second) >= self._pairs.room:
                raise InvalidInput(f"its hypothesis has {len(second)} tokens, which leaves a text no room", place)
        rows: list[Array] = []
        truncated: list[int] = []
        firsts = self._tokenizer.encode_bare(inputs, [f"{pointer}/{index}" for index in range(len(inputs))])
        for index, first in enumerate(firsts):
            joined = [self._pairs.join(first, two, f"{pointer}/{index}", read.truncate, _only_first) for two in seconds]
            rows += [row for row, _ in joined]
            if any(was_cut for _, was_cut in joined):
                truncated.append(index)
        costs = [row.shape[1] for row in rows]
        return Prepared(rows, costs, {}, sum(costs), truncated, context=(list(inputs), labels, read.multi_label))

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        texts, labels, multi_label = prepared.context
        predictions = []
        for number, text in enumerate(texts):
            logits = np.stack(outputs[number * len(labels) : (number + 1) * len(labels)])
            scores = label_scores(logits, self._entailment, multi_label)
            order = np.argsort(scores, kind="stable")[::-1]
            ranked = {"labels": [labels[i] for i in order], "scores": [float(scores[i]) for i in order]}
            predictions.append({"sequence": text, **ranked})
        return predictions


def _checked_labels(read: ZeroShotParameters) -> list[str]:
    """Raises InvalidInput for labels or a template that give no sentences."""
    place = pointer_to("candidate_labels")
    if read.candidate_labels is None:
        raise InvalidInput(f"candidate_labels is missing: the 1 to {MAX_LABELS} labels to choose among", place)
    for number, label in enumerate(read.candidate_labels):
        check_text(label, f"{place}/{number}", MAX_LABEL_CHARS)
    template = read.hypothesis_template
    check_text(template, pointer_to("hypothesis_template"), MAX_TEMPLATE_CHARS)
    # Never str.format, which would run a caller's format.
    if template.count("{}") != 1 or template.count("{") + template.count("}") != 2:
        told = 'must hold {} once, where the label goes, and no other braces: "This example is {}."'
        raise InvalidInput(told, pointer_to("hypothesis_template"))
    return list(read.candidate_labels)


def _only_first(n_first: int, n_second: int, room: int) -> tuple[int, int]:
    """The text is cut, never the hypothesis."""
    return min(n_first, room - n_second), n_second


def label_scores(logits: Array, entailment: int, multi_label: bool) -> Array:
    """[labels] of `logits` [labels, outputs]: among the labels' entailments or, of a label by itself, of entailment
    against contradiction, which is the other end of the outputs."""
    if multi_label or len(logits) == 1:
        against = logits[:, -1 if entailment == 0 else 0]
        pair = np.stack([against, logits[:, entailment]], -1)
        powers = np.exp(pair - pair.max(-1, keepdims=True))
        return np.asarray(powers[:, 1] / powers.sum(-1))
    powers = np.exp(logits[:, entailment] - logits[:, entailment].max())
    return np.asarray(powers / powers.sum())


class ZeroShotModel(ModelSide):
    """Model side: float32 logits [outputs] per row."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.classification_head import load_classifier

        n_outputs, _ = entailment(folder, manifest)
        self._classifier, self.precision_reason = load_classifier(folder, precision, n_outputs, "none", pairs=True)
        self.precision = self._classifier.precision

    def warm(self) -> None:
        self._classifier.warm()

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        return list(self._classifier.scores(arrays))


class ZeroShotClassification(EncoderTask):
    parameters = ZeroShotParameters
    prediction = ZeroShot
    options = ZeroShotOptions
    warm_inputs = (
        "warm",
        "A sentence of ordinary length to warm up with.",
        "What a lovely day! The train was on time and everybody smiled. " * 6,
        "naïve café, 東京, 🙂 and 1,234.56 in one text",
    )
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True, "candidate_labels": ["travel", "the economy"]}

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> ZeroShotWeb:
        return ZeroShotWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> ZeroShotModel:
        return ZeroShotModel(folder, manifest, precision)

    def settle(self, folder: Path) -> None:
        write_frame(folder)


TASK = ZeroShotClassification()
