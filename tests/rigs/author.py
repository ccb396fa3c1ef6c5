"""A model author who publishes from elsewhere: writes to the store behind the instance's mount."""

from pathlib import Path
from typing import Any

from model_api.publishing import changes as store_changes
from model_api.publishing import draft as publishing
from model_api.publishing import moves
from model_api.repository.layout import Layout
from model_api.repository.refs import Ref


class Author:
    """Publishes small random models onto the store at `root`, which it sets up. For one thread."""

    def __init__(self, root: Path) -> None:
        store_changes.init(root)
        self.layout = Layout(root)

    def publish(
        self,
        folder: Path,
        name: str,
        version: str | None = None,
        canary_percent: float | None = None,
        task: str | None = "embedding",
        **options: Any,
    ) -> Ref:
        """What is published then. The same content again is what it was."""
        made = publishing.draft(folder, name, lambda done, total: None, task, options)
        return publishing.publish(self.layout, made, lambda done, total: None, version, canary_percent).ref

    def promote(self, name: str, version: str | None = None) -> Ref:
        """What is stable then."""
        return _stable(moves.promote(self.layout, name, version).after.stable)

    def rollback(self, name: str) -> Ref:
        """What is stable then."""
        return _stable(moves.rollback(self.layout, name).after.stable)

    def seal(self, name: str) -> int:
        """Say that a plain folder is whole as it is; the number of its files."""
        return store_changes.seal(self.layout, name)

    def weights(self, name: str, version: str) -> Path:
        """The published weights file, for those who damage it."""
        return self.layout.version(name, version) / "model.safetensors"


def _stable(ref: Ref | None) -> Ref:
    assert ref is not None
    return ref
