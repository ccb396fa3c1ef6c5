"""A task asked in this process: what its web side makes of inputs, its model computes, and its web side tells."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_api.repository.manifest import FileEntry, Manifest
from model_api.tasks import find_task
from model_api.tasks.contract import Limits, ModelSide, WebSide
from model_api.tasks.text.encoding import Encoder

MAX_TEXT_CHARS = 5000


class Asked:
    """A model of `task` in `folder`, which is settled first."""

    def __init__(
        self, task: str, folder: Path, precision: str = "float32", encoder: Encoder | None = None, **options: Any
    ) -> None:
        self.task = find_task(task)
        files = (FileEntry("config.json", 1, "0" * 64),)
        self.manifest = Manifest("m", "1", task, files, memory_bytes=1, options=options)
        self.task.settle(folder)
        self.web: WebSide = self.task.open_web(folder, self.manifest, Limits(MAX_TEXT_CHARS, encoder))
        self._folder, self._precision = folder, precision
        self._model: ModelSide | None = None

    @property
    def model(self) -> ModelSide:
        """Loaded when it is first wanted."""
        if self._model is None:
            self._model = self.task.load_model(self._folder, self.manifest, self._precision)
        return self._model

    def __call__(self, inputs: Sequence[Any], parameters: Mapping[str, Any] | None = None) -> list[Any]:
        prepared = self.web.prepare(inputs, parameters or {})
        return self.web.finish(prepared, list(self.model.forward(prepared.arrays, prepared.parameters)))
