"""Copy and verify a version's files with many large reads in flight, hashing on the way.

A single sequential reader never reaches the rate of a network file system. Reads are positional and nothing is
mapped: a file that is replaced or cut short under the reader is a wrong hash, never a SIGBUS.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from model_api.errors import Refused
from model_api.manifest import FileEntry
from model_api.plain_folders import hash_file

Progress = Callable[[int, int], None]  # bytes done, bytes in all
READERS = 8
BLOCK_BYTES = 4 * 2**20
_FLUSH_BYTES = 64 * 2**20  # written back while the rest is still being read
_COPIED_SO_FAR = 2 * READERS  # blocks in memory at most


def copy_files(entries: Sequence[FileEntry], source: Path, target: Path, progress: Progress) -> list[FileEntry]:
    """Copy `entries` and put them on disk; returns those whose content read wrong (another size or hash).

    `progress` is called on the calling thread. Raises Refused for a symbolic link, OSError. READERS threads read and
    write blocks; the calling thread hashes them in order.
    """
    wrong: list[FileEntry] = []
    done_bytes, total_bytes = 0, sum(entry.size_bytes for entry in entries)
    with (
        ThreadPoolExecutor(READERS, thread_name_prefix="copy") as readers,
        ThreadPoolExecutor(1, thread_name_prefix="flush") as flusher,
    ):
        flushes: list[Future[None]] = []
        for entry in entries:
            with _opened(source, target, entry) as (input_fd, output_fd):
                if os.fstat(input_fd).st_size != entry.size_bytes:
                    wrong.append(entry)
                    continue
                sha256, unflushed_bytes = hashlib.sha256(), 0
                for block in _blocks(readers, input_fd, output_fd, entry.size_bytes):
                    sha256.update(block)
                    done_bytes += len(block)
                    unflushed_bytes += len(block)
                    progress(min(done_bytes, total_bytes), total_bytes)
                    if unflushed_bytes >= _FLUSH_BYTES:
                        flushes.append(flusher.submit(_flush, os.dup(output_fd)))
                        unflushed_bytes = 0
                flushes.append(flusher.submit(_flush, os.dup(output_fd)))
                if sha256.hexdigest() != entry.sha256:
                    wrong.append(entry)
        for flush in flushes:
            flush.result()
    return wrong


def wrong_files(entries: Sequence[FileEntry], folder: Path) -> list[FileEntry]:
    """Those of `entries` that are missing in `folder` or read with another size or hash. Raises OSError."""

    def is_wrong(entry: FileEntry) -> bool:
        file = folder / entry.path
        try:
            if file.is_symlink() or file.stat().st_size != entry.size_bytes:
                return True
            return hash_file(file) != (entry.size_bytes, entry.sha256)
        except FileNotFoundError:
            return True

    with ThreadPoolExecutor(READERS, thread_name_prefix="verify") as pool:
        return [entry for entry, wrong in zip(entries, pool.map(is_wrong, entries), strict=True) if wrong]


@contextlib.contextmanager
def _opened(source: Path, target: Path, entry: FileEntry) -> Iterator[tuple[int, int]]:
    """Descriptors of an entry's file in both folders."""
    refuse_links(source, entry.path)
    try:
        input_fd = os.open(source / entry.path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused(entry.path, "a symbolic link inside a published version") from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(input_fd).st_mode):
            raise Refused(entry.path, "not a file")
        file = target / entry.path
        file.parent.mkdir(parents=True, exist_ok=True)
        output_fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
        try:
            yield input_fd, output_fd
        finally:
            os.close(output_fd)
    finally:
        os.close(input_fd)


def refuse_links(source: Path, path: str) -> None:
    """Raises Refused if any step from `source` to `path` is a symbolic link: it could lead anywhere."""
    step = source
    for part in Path(path).parts:
        step = step / part
        if step.is_symlink():
            raise Refused(path, "a symbolic link inside a published version")


def _blocks(readers: ThreadPoolExecutor, input_fd: int, output_fd: int, size_bytes: int) -> Iterator[bytes]:
    """The file's blocks in order, each already written; a few are always in flight."""
    pending: deque[Future[bytes]] = deque()
    try:
        for offset in range(0, size_bytes, BLOCK_BYTES):
            length = min(BLOCK_BYTES, size_bytes - offset)
            pending.append(readers.submit(_copy_block, input_fd, output_fd, offset, length))
            if len(pending) >= _COPIED_SO_FAR:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:  # an error: the descriptors must outlive the reads that are under way
            future.cancel()
        for future in pending:
            if not future.cancelled():
                future.exception()


def _copy_block(input_fd: int, output_fd: int, offset: int, length: int) -> bytes:
    block = os.pread(input_fd, length, offset)
    while len(block) < length:
        more = os.pread(input_fd, length - len(block), offset + len(block))
        if not more:
            break  # cut short since it was opened: the hash will tell
        block += more
    view = memoryview(block)
    while view:
        written = os.pwrite(output_fd, view, offset)
        view, offset = view[written:], offset + written
    return block


def _flush(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
