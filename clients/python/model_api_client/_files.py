"""Files that appear when they are whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast


class Landing:
    """Beside `target` a file is written, which takes its name at the end of a `with` that raised nothing."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> Landing:
        handle, name = tempfile.mkstemp(".part", f".{self.target.name}.", self.target.parent)
        self._aside = Path(name)
        self.file = cast(BinaryIO, os.fdopen(handle, "wb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        if error is None:
            umask = os.umask(0)
            os.umask(umask)
            self._aside.chmod(0o666 & ~umask)  # mkstemp's file is for its owner alone
            self._aside.replace(self.target)
        else:
            self._aside.unlink()
