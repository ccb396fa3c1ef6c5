"""Whether a worker of this machine still lives: it holds a lock on a file as long as it does, whatever ends it."""

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

from model_api.errors import JobsDown


class Presence:
    """This process among those that share a folder on a local disk. `name` is its own, and never comes again."""

    def __init__(self, folder: Path) -> None:
        """Raises JobsDown."""
        self._folder = folder
        self.name = f"local-{secrets.token_hex(8)}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside = folder / f".{self.name}"  # under its name only once it is locked
            self._descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            aside.rename(folder / self.name)
            for file in folder.glob("local-*"):
                self.is_gone(file.name)  # removes what the dead left behind
        except OSError as error:
            raise JobsDown(f"jobs can't be kept in {folder} ({error.strerror})") from error

    def is_gone(self, name: str) -> bool:
        """Whether the worker of that name has ended. False where that isn't certain."""
        if name == self.name or not name.startswith("local-") or "/" in name:
            return False
        file = self._folder / name
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True  # its name is removed by whoever found it dead
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            file.unlink()
        return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            (self._folder / self.name).unlink()
        os.close(self._descriptor)
