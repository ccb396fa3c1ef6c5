"""This instance's verified copies of the weights, on its own disk. What loads is loaded from here and nowhere else.

`<store>/<digest>/` is one whole copy; it appears by rename once every file's sha256 is right, and is checked again
each time it is handed out. Its files are this user's alone: they share no inode with what authors can write (a file
that is mapped by a running lane must never change), and nobody else may open them. Any number of processes of one user
may use one store.

Errors: Refused is final for that digest; StoreFull and every OSError (a stale name, a vanished mount, a full disk)
may pass and are worth another try.
"""

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from model_api.errors import Refused, StoreFull
from model_api.local_store.parallel_copy import Progress, copy_files, wrong_files
from model_api.repository.files import locked_file, sync_folder, sync_tree, write_aside
from model_api.repository.folder_signature import Changed
from model_api.repository.manifest import MANIFEST_NAME, SHA256_PATTERN, FileEntry, Manifest
from model_api.repository.units import mb, part_of

_OWN_FOLDER = 0o700  # whatever the umask says
_LOCKS, _PARTIAL, _USED = ".locks", ".partial", ".used"
SPARE_BYTES = 256 * 2**20  # of the disk, left free for others


class LocalStore:
    """`fetch` runs in a version's leader process, which may be killed at any time; the rest on the manager's side.
    Nothing is kept in memory, so every process makes its own."""

    def __init__(self, root: Path, budget_bytes: int | None = None) -> None:
        """`budget_bytes` bounds all copies together; None: whatever the disk has, less SPARE_BYTES."""
        self.root = root
        self._budget_bytes = budget_bytes

    def folder(self, digest: str) -> Path:
        """Where the copy of `digest` lies, or would."""
        if not SHA256_PATTERN.fullmatch(digest):
            raise Refused(MANIFEST_NAME, f"{digest!r} is not a digest")
        return self.root / digest

    def digests(self) -> list[str]:
        """What is here, the least recently used first."""
        try:
            found = [path for path in self.root.iterdir() if SHA256_PATTERN.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        return [path.name for path in sorted(found, key=_last_used_ns)]

    def sweep(self) -> None:
        """Remove what interrupted copies left. Called once at start; leaves alone what another process is copying."""
        partial = self.root / _PARTIAL
        for folder in list(partial.iterdir()) if partial.is_dir() else []:
            with contextlib.suppress(BlockingIOError), self._lock(folder.name, wait=False):
                shutil.rmtree(folder, ignore_errors=True)

    def fetch(
        self,
        manifest: Manifest,
        source: Path,
        progress: Progress,
        *,
        immutable: bool,
        protected: Collection[str] = (),
    ) -> Path:
        """The folder with a verified copy of `manifest`, copied from `source` unless it is here already.

        `immutable` says that `source` is a published version, so wrong content there is final; of a plain folder it
        only means that it changed.
        `protected` are digests that must not make room for this one (what is loaded, and `previous`).
        `progress(done_bytes, total_bytes)` is called on this thread. Waits while another process copies the same.
        Raises Refused (final), StoreFull, OSError (worth another try).
        """
        folder = self.folder(manifest.digest)
        self.root.mkdir(parents=True, exist_ok=True)
        with self._lock(manifest.digest, wait=True):
            partial = self.root / _PARTIAL / manifest.digest
            shutil.rmtree(partial, ignore_errors=True)
            if folder.is_dir():
                if _is_own(folder, manifest) and not wrong_files(manifest.files, folder):
                    _touch(folder)
                    return folder
                shutil.rmtree(folder)  # damaged on this disk, or open to others: fetch it afresh
            self._check_source(manifest, source)
            partial.mkdir(parents=True)
            partial.chmod(_OWN_FOLDER)
            try:
                self._make_room(manifest, source, protected)
                wrong = copy_files(manifest.files, source, partial, progress)
                wrong = copy_files(wrong, source, partial, lambda done, total: None)  # what read wrong, once more
                if wrong and not immutable:
                    raise Changed(errno.EAGAIN, f"{wrong[0].path} changed since the folder was taken")
                if wrong:
                    raise Refused(wrong[0].path, _why_wrong(wrong[0], source))
                write_aside(partial / MANIFEST_NAME, manifest.to_json())
                sync_tree(partial)
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            sync_folder(self.root)
            _touch(folder)
            progress(manifest.size_bytes, manifest.size_bytes)
            return folder

    def _check_source(self, manifest: Manifest, source: Path) -> None:
        """A source that isn't there is an OSError, not a verdict: a stale name, or a mount that went away."""
        if not source.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"{manifest.model}@{manifest.version}: its folder can't be found")

    def _make_room(self, manifest: Manifest, source: Path, protected: Collection[str]) -> None:
        """Evict the least recently used copies until `manifest` fits, and none if it can't fit whatever is evicted.
        Raises StoreFull with the figures."""
        sizes_bytes = {digest: _size_bytes(self.root / digest) for digest in self.digests()}
        free_bytes = shutil.disk_usage(self.root).free - SPARE_BYTES
        if self._budget_bytes is not None:
            free_bytes = min(free_bytes, self._budget_bytes - sum(sizes_bytes.values()))
        evictable = {digest: size_bytes for digest, size_bytes in sizes_bytes.items() if digest not in protected}
        missing_bytes = _bytes_to_copy(manifest, source) - free_bytes
        if missing_bytes > sum(evictable.values()):
            raise StoreFull(
                f"{manifest.model}@{manifest.version} needs {mb(manifest.size_bytes)} in {self.root},"
                f" {mb(max(0, free_bytes + sum(evictable.values())))} can be had; the other copies there are loaded or"
                " previous"
            )
        for digest, size_bytes in evictable.items():
            if missing_bytes <= 0:
                return
            self._evict(digest)
            missing_bytes -= size_bytes

    def _evict(self, digest: str) -> None:
        with contextlib.suppress(BlockingIOError), self._lock(digest, wait=False):
            doomed = self.root / _PARTIAL / f"{digest}.evicted"
            doomed.parent.mkdir(exist_ok=True)
            shutil.rmtree(doomed, ignore_errors=True)
            (self.root / digest).rename(doomed)  # gone in one step: nobody meets half a copy
            shutil.rmtree(doomed, ignore_errors=True)

    @contextlib.contextmanager
    def _lock(self, digest: str, wait: bool) -> Iterator[None]:
        """One process at a time per digest. Raises BlockingIOError if `wait` is false and another has it."""
        locks = self.root / _LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        with locked_file(locks / digest.partition(".")[0], wait):
            yield


def _bytes_to_copy(manifest: Manifest, source: Path) -> int:
    """No more than what really lies there: a manifest may list files of any size, and none is worth a good copy."""
    total_bytes = 0
    for entry in manifest.files:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            total_bytes += min(entry.size_bytes, (source / entry.path).lstat().st_size)
    return total_bytes


def _why_wrong(entry: FileEntry, source: Path) -> str:
    size_bytes = (source / entry.path).stat().st_size
    if size_bytes < entry.size_bytes:
        return f"cut short: {part_of(size_bytes, entry.size_bytes)}"
    return "its content does not have the hash that manifest.json lists (read twice)"


def _is_own(folder: Path, manifest: Manifest) -> bool:
    """Whether nobody but this user can reach the copy's files, under any other name either."""
    if stat.S_IMODE(folder.stat().st_mode) != _OWN_FOLDER:
        return False
    with contextlib.suppress(FileNotFoundError):  # then it is damaged, which the hashes tell
        return all((folder / entry.path).lstat().st_nlink == 1 for entry in manifest.files)
    return True


def _touch(folder: Path) -> None:
    now_ns = time.time_ns()  # finer than the kernel's own stamp, so that two uses in a row keep their order
    (folder / _USED).touch()
    os.utime(folder / _USED, ns=(now_ns, now_ns))


def _last_used_ns(folder: Path) -> int:
    try:
        return (folder / _USED).stat().st_mtime_ns
    except OSError:
        return 0


def _size_bytes(folder: Path) -> int:
    """What evicting the folder would give back."""
    total_bytes = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total_bytes += os.lstat(Path(directory, name)).st_size
    return total_bytes
