"""What a video model's config.json says. Read before torch is there, and by its trainer."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_api.errors import Refused
from model_api.repository.loaded_files import CONFIG_FILE

Width = Annotated[int, Field(ge=1, le=4096)]
Levels = tuple[float, float, float]


class _VideoConfig(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    architectures: list[str] = []
    content_head: bool = False
    """Whether there is a `content` layer: one output, how likely a clip shows what the model is for."""
    image_mean: Levels = (0.485, 0.456, 0.406)
    image_std: Levels = (0.229, 0.224, 0.225)
    n_classes: int = Field(0, ge=0, le=100_000)
    """Outputs of the content head (C3D: `fc8`; R(2+1)D: `fc`); none where it is 0."""

    @model_validator(mode="after")
    def _some_spread(self) -> "_VideoConfig":
        if min(self.image_std) <= 0:
            raise ValueError("image_std must be above 0")
        return self


class C3DConfig(_VideoConfig):
    model_type: Literal["c3d"] = "c3d"
    hidden_sizes: list[Width] = Field([], max_length=2)
    """Widths of fc6 and fc7, as far as the model has them (4096 each, as published)."""
    feature_layer: Literal["pool5", "fc6", "fc7"] = "pool5"
    """What is averaged over the clips."""

    @model_validator(mode="after")
    def _has_its_layers(self) -> "C3DConfig":
        if int(self.feature_layer.removeprefix("fc").removeprefix("pool")) - 5 > len(self.hidden_sizes):
            raise ValueError(f"feature_layer {self.feature_layer} needs more hidden_sizes")
        return self


class R2Plus1DConfig(_VideoConfig):
    model_type: Literal["r2plus1d"] = "r2plus1d"
    stem_between: Width = 45
    stem_width: Width = 64
    stem_stride: int = Field(2, ge=1, le=8)
    widths: list[Width] = Field([64, 128, 256, 512], min_length=1, max_length=6)
    blocks: list[Annotated[int, Field(ge=1, le=16)]] = [2, 2, 2, 2]
    strides: list[Annotated[int, Field(ge=1, le=2)]] = [1, 2, 2, 2]

    @model_validator(mode="after")
    def _same_lengths(self) -> "R2Plus1DConfig":
        if not len(self.widths) == len(self.blocks) == len(self.strides):
            raise ValueError("widths, blocks and strides must have the same length")
        return self


def read_config(content: Any) -> C3DConfig | R2Plus1DConfig:
    """Raises Refused naming config.json and what is wrong there."""
    kind = content.get("model_type") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise Refused(
            CONFIG_FILE, f"model_type {str(kind)[:40]!r} is no network for videos; there are {', '.join(KINDS)}"
        )
    try:
        return KINDS[kind].model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Refused(CONFIG_FILE, f"{place}: {first['msg']}" if place else str(first["msg"])) from None


KINDS: Mapping[str, type[C3DConfig] | type[R2Plus1DConfig]] = {"c3d": C3DConfig, "r2plus1d": R2Plus1DConfig}
