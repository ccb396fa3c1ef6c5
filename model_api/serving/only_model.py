"""The model of a body that names none, where only one serves the task."""

from model_api.errors import InvalidInput, ModelNotReady
from model_api.instance.manager import Manager


def only_model(manager: Manager, task: str, path: str) -> str:
    """Its name. `path` is the address that was asked. Raises InvalidInput or ModelNotReady."""
    names = manager.serving.names_of(task)
    if len(names) == 1:
        return names[0]
    if not manager.is_ready() and not names:
        raise ModelNotReady(path, f"no {task} model is loaded yet")
    found = f"{len(names)} {task} models are served ({', '.join(sorted(names))})" if names else "none is served"
    raise InvalidInput(f'name the model: "model" is missing and {found}', "/model")
