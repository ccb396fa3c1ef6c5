"""Short ways to a store with something in it."""

from pathlib import Path
from typing import Any

from model_api.publishing.changes import Outcome, init
from model_api.publishing.draft import draft, publish
from model_api.repository.layout import Layout


def quiet(done_bytes: int, total_bytes: int) -> None:
    """Progress that nobody watches."""


def new_store(root: Path) -> Layout:
    init(root)
    return Layout(root)


def published(layout: Layout, folder: Path, name: str = "mini", **how: Any) -> Outcome:
    """Publish `folder` as the next version of `name`."""
    task, options = how.pop("task", None), how.pop("options", None)
    return publish(layout, draft(folder, name, quiet, task, options), quiet, **how)


def tree(root: Path) -> dict[str, bytes]:
    """Every file below `root` with its content."""
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}
