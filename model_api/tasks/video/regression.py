"""Task `video-regression`: a video to one number, as judges of dives, of jumps and of exercises give it.

A prediction is {"score", "prediction"}: the network's output, and what the manifest's option makes of it. The frames
are cut to clips of 16, and the clips' features averaged. Videos don't come in a JSON body: they come by an upload with
a job, which decodes them elsewhere (jobs/videos.py) and asks this task for the parts.

The manifest's options: `score_factor` (the score is then int(prediction x score_factor)), `content_class` and
`content_minimum` (a video whose 16 evenly spaced frames show that class by less is refused; with a `content` layer in
the model and no class, the layer's answer counts), `precision`.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field

from model_api.compute.video.clips import CLIP_FRAMES, CROP
from model_api.compute.video.config import read_config
from model_api.errors import InvalidInput, Refused
from model_api.repository.loaded_files import CONFIG_FILE
from model_api.repository.manifest import MANIFEST_NAME, Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, Task, WebSide
from model_api.tasks.options import Options, read_options
from model_api.tasks.parameters import Parameters, read_parameters

PART = "part"
"""The parameter of the jobs' own calls, whose inputs are arrays: `clip` or `glance` (uint8 [16, 112, 112, 3]) give rows
and how much of the wanted content they show; `features` (float32, averaged) give the prediction."""
CLIP, GLANCE, FEATURES = "clip", "glance", "features"
CLIP_TOKENS = 1024  # what a clip counts for in the queue, whose unit is tokens
HOW_IT_COMES = (
    'a video comes by an upload with a job: POST /uploads {"content_type": "video/mp4", "job": {"kind":'
    ' "video-regression", "model": ...}}'
)


class VideoOptions(Options):
    precision: Literal["auto", "float32", "bfloat16"] | None = Field(None, description="What it computes in.")
    score_factor: float | None = Field(None, description="The score is int(prediction x this); default: as it is.")
    content_class: int | None = Field(None, ge=0, description="Number of the class that a video must show.")
    content_minimum: float = Field(0.5, ge=0, le=1, description="By how much it must show what it is to show.")


class VideoParameters(Parameters):
    """None yet."""


class VideoScore(BaseModel):
    score: float = Field(description="The prediction, or int(prediction x score_factor).")
    prediction: float = Field(description="The network's output.")


class VideoWeb(WebSide):
    """Web side. It decodes nothing: a row is a clip, or the mean of a video's rows."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        if find_spec("av") is None:
            raise Refused("", "videos can't be decoded here: PyAV isn't installed (requirements-video.txt)")
        try:
            config = read_config(json.loads((folder / CONFIG_FILE).read_bytes()))
        except ValueError as error:
            raise Refused(CONFIG_FILE, f"not valid JSON ({error})") from None
        self._options = read_options(VideoOptions, manifest.options)
        number, self._column = self._options.content_class, None
        if number is not None and number >= config.n_classes:
            raise Refused(MANIFEST_NAME, f"content_class is {number}, the model has {config.n_classes} classes")
        if number is not None:
            self._column = number - config.n_classes  # from the row's end
        elif config.content_head:
            self._column = -1 - config.n_classes
        self._n_others = config.n_classes + config.content_head

    def repeatable(self, parameters: Mapping[str, Any]) -> bool:
        return PART not in parameters  # the parts of a video are nobody else's: they aren't kept

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        part = parameters.get(PART)
        if not all(isinstance(one, np.ndarray) for one in inputs) or (inputs and part is None):
            raise InvalidInput(HOW_IT_COMES, pointer)
        if part is not None and inputs:
            parameters = {name: value for name, value in parameters.items() if name != PART}
        read_parameters(VideoParameters, parameters)
        return Prepared(inputs, [CLIP_TOKENS if part != FEATURES else 1] * len(inputs), {}, 0, context=part)

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        if prepared.context == FEATURES:
            return [self._score(float(output[0])) for output in outputs]
        if prepared.context == GLANCE:
            return [self._content(output) for output in outputs]
        return [output[: len(output) - self._n_others] for output in outputs]

    def _score(self, prediction: float) -> dict[str, float]:
        factor = self._options.score_factor
        return {"score": prediction if factor is None else int(prediction * factor), "prediction": prediction}

    def _content(self, row: Array) -> dict[str, float | None]:
        """By how much a whole video at a glance shows what it is to show, and the least that is accepted; None where
        any video will do."""
        shown = None if self._column is None else float(row[self._column])
        return {"shown": shown, "minimum": self._options.content_minimum}


class VideoModel(ModelSide):
    """Model side: a row of features and content per clip; a prediction for averaged features."""

    def __init__(self, folder: Path, precision: str) -> None:
        from model_api.compute.video.judge import VideoJudge

        self._judge, self.precision_reason = VideoJudge.load(folder, precision)
        self.precision = self._judge.precision

    def after_fork(self) -> None:
        import torch

        from model_api.compute.processor import available_cores, yield_the_processor

        yield_the_processor()
        torch.set_num_threads(available_cores())  # there is one lane, and forwards take long

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        clips = [number for number, array in enumerate(arrays) if array.ndim > 1]
        rows: dict[int, Array] = dict(zip(clips, self._judge.rows([arrays[number] for number in clips]), strict=True))
        return [
            rows[number] if number in rows else self._judge.prediction(array) for number, array in enumerate(arrays)
        ]


def _pattern(step: int) -> Array:
    """A clip of moving stripes, always the same."""
    t, y, x = np.ogrid[:CLIP_FRAMES, :CROP, :CROP]
    levels = ((x + step * t) * 5 + y * step) % 256
    return np.stack([levels, 255 - levels, levels // 2], axis=-1).astype(np.uint8)


class VideoRegression(Task):
    parameters = VideoParameters
    prediction = VideoScore
    options = VideoOptions
    warm_inputs = (_pattern(1), _pattern(3))
    warm_parameters: ClassVar[Mapping[str, Any]] = {PART: CLIP}
    long_running = True

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> VideoWeb:
        return VideoWeb(folder, manifest)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> VideoModel:
        return VideoModel(folder, precision)


TASK = VideoRegression()
