"""Tell every instance that a model is about to change, and that it has: see repository/generation.py.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from model_api.errors import RefsConflict, Refused
from model_api.publishing.author_lock import author_lock
from model_api.repository.bounded_files import read_bounded
from model_api.repository.files import write_aside
from model_api.repository.generation import MAX_GENERATION_BYTES, Generation
from model_api.repository.layout import Layout

_WAKE_PATIENCE_S = 5.0
# An author who may write into his own models only can't say so here: the instances' slower turns find his changes.
_MAY_NOT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextlib.contextmanager
def announced(layout: Layout, name: str, patience_s: float | None = None) -> Iterator[None]:
    """Inside it what serves of `name` changes: one author at a time, of any model, so keep it short.

    Raises OSError or RefsConflict before anything has changed. Once it has, nothing is raised: what can't be closed
    stays open, and that is looked at every time.
    """
    lock = contextlib.ExitStack()
    with lock:
        try:
            lock.enter_context(author_lock(layout.generation_lock, "models/", patience_s))
            before = read_generation(layout)
            write_aside(layout.generation, before.opened(name).to_json())
        except OSError as error:
            if error.errno not in _MAY_NOT:
                raise
            yield
            return
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                write_aside(layout.generation, read_generation(layout).closed().to_json())


def wake(layout: Layout, name: str) -> None:
    """Have every instance look at a model and show that it lives, although nothing changed: when all is quiet they do
    so seldom. Raises nothing: then it takes longer."""
    with contextlib.suppress(OSError, RefsConflict), announced(layout, name, _WAKE_PATIENCE_S):
        pass


def read_generation(layout: Layout) -> Generation:
    """The generation as it is now; a new one where there is none, or none that can be understood (whoever reads that
    one looks at everything). Raises OSError."""
    try:
        return Generation.from_json(read_bounded(layout.generation, MAX_GENERATION_BYTES))
    except (FileNotFoundError, Refused):
        return Generation()
