"""What every way of answering has in common: a request made ready by its version's web side, and the answer that names
the weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from model_api.errors import ModelNotReady
from model_api.instance.version import Version
from model_api.processes.lane import LaneGroup
from model_api.serving.cache import CachedAnswer
from model_api.serving.calls import Answer, CallContext, Weights
from model_api.serving.heavy_work import heavy_work
from model_api.serving.pending import Outputs
from model_api.tasks.contract import Prepared
from model_api.tasks.text.encoding import answer_by


def prepare(
    version: Version, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str, context: CallContext
) -> tuple[LaneGroup, Prepared]:
    """The version's process group, and the inputs as it takes them. Raises ModelNotReady, InvalidInput."""
    group = version.group
    if version.web is None or group is None:
        raise ModelNotReady(version.name, "its model processes are being restarted")
    with web_side(version, context.size_bytes, context):
        return group, version.web.prepare(inputs, parameters, pointer)


@contextmanager
def web_side(version: Version, n_bytes: int, context: CallContext) -> Iterator[None]:
    """Around what a version's web side does with so much. Where its tokenizer runs apart it isn't done here, and must
    not make others wait."""
    with answer_by(context.deadline):
        if version.encodes_apart:
            yield
            return
        with heavy_work(n_bytes, context.deadline):
            yield


def weights_of(version: Version, parameters: Mapping[str, Any]) -> Weights:
    manifest = version.manifest
    return Weights(version.name, manifest.version, manifest.digest, manifest.task, version.repeats(parameters))


def answer_of(version: Version, predictions: list[Any], prepared: Prepared, outputs: Outputs) -> Answer:
    return Answer(
        model=version.name,
        version=version.manifest.version,
        digest=version.manifest.digest,
        task=version.manifest.task,
        predictions=predictions,
        n_tokens=prepared.n_tokens,
        truncated=prepared.truncated,
        queue_ms=outputs.queue_ms,
        forward_ms=outputs.forward_ms,
        batch_size=outputs.batch_size,
        precision=version.precision,
        min_cosine=_min_cosine(version),
    )


def _min_cosine(version: Version) -> float | None:
    return version.accuracy.min_cosine if version.accuracy else None


def cached_answer(version: Version, entry: CachedAnswer, age_s: float | None) -> Answer:
    """An answer that another request computed: it names the version that this one asked, which has the same digest."""
    return Answer(
        model=version.name,
        version=version.manifest.version,
        digest=version.manifest.digest,
        task=version.manifest.task,
        predictions=entry.fragments,
        n_tokens=entry.n_tokens,
        truncated=entry.truncated,
        queue_ms=0.0,
        forward_ms=0.0,
        batch_size=0,
        precision=version.precision,
        min_cosine=_min_cosine(version),
        age_s=None if age_s is None else int(age_s),
    )
