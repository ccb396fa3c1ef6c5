"""What /sim adds to a prediction: which model answers, the measure, and where in its body an error points."""

from collections.abc import Sequence

from model_api.errors import InvalidInput
from model_api.instance.manager import Manager
from model_api.instance.version import Version
from model_api.serving.only_model import only_model
from model_api.tasks.contract import Array, Prepared
from model_api.tasks.text.embedding import EmbeddingWeb


def similarity_model(configured: str | None, manager: Manager) -> str:
    """The model of a body that names none: the configured one, else the one that authors chose or that answered so
    far, else the only embedding model.

    Raises InvalidInput or ModelNotReady.
    """
    if configured:
        return configured
    chosen = manager.serving.sim_model()
    if chosen is not None:
        return chosen
    return only_model(manager, "embedding", "/sim")


def require_embedding(version: Version) -> None:
    """Raises InvalidInput for a model of another task."""
    if version.manifest.task != "embedding":
        raise InvalidInput(f"{version.name} serves {version.manifest.task}, /sim needs an embedding model", "/model")


def similarities(version: Version, prepared: Prepared, outputs: Sequence[Array]) -> list[float]:
    """The first text with each of the others, by the measure that the model was trained for: cosine where its files
    name none."""
    web = version.web
    assert isinstance(web, EmbeddingWeb)  # require_embedding
    return web.similarities(prepared, outputs)


def similarity_pointer(pointer: str) -> str:
    """Where /sim's body has what stands at `pointer` among the texts that were run: `/0` is the target, `/n` the text
    n-1; what else points elsewhere in the body stays."""
    index = pointer.removeprefix("/")
    if not index.isdigit():
        return pointer or "/texts"
    return "/target" if index == "0" else f"/texts/{int(index) - 1}"
