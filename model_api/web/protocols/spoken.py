"""The dialects that are spoken: a line each."""

from collections.abc import Callable, Mapping

from model_api.web.protocols import earlier_systems, hugging_face, invocations, open_inference, tei
from model_api.web.protocols.dialect import Dialect
from model_api.web.responses import ApiResponse

DIALECTS: tuple[Dialect, ...] = (
    tei.DIALECT,
    hugging_face.DIALECT,
    open_inference.DIALECT,
    *invocations.DIALECTS,
    earlier_systems.DIALECT,
)
SHAPES: Mapping[str, Callable[[ApiResponse], ApiResponse]] = {
    prefix: dialect.shaped for dialect in DIALECTS for prefix in dialect.prefixes
}
BLUEPRINTS = tuple(dialect.blueprint for dialect in DIALECTS if dialect.blueprint is not None)
