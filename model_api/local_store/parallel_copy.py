"""Copy and verify a version's files with many large reads in flight, hashing on the way.

A single sequential reader never reaches the rate of a network file system. Reads are positional and nothing is
mapped: a file that is replaced or cut short under the reader is a wrong hash, never a SIGBUS. On one and the same disk
a file system that can (XFS, btrfs) shares the blocks until one side writes, which costs no time and no space.

A copy is a file of its own, which its owner alone may read: never a link to what others can write.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from model_api.errors import Refused
from model_api.repository.files import hash_file
from model_api.repository.manifest import FileEntry

Progress = Callable[[int, int], None]  # bytes done, bytes in all
READERS = 8
BLOCK_BYTES = 4 * 2**20
_FLUSH_BYTES = 64 * 2**20  # written back while the rest is still being read
_FICLONE = 0x40049409  # linux/fs.h; elsewhere it is no request that anything knows
_COPIED_SO_FAR = 2 * READERS  # blocks in memory at most


def copy_files(entries: Sequence[FileEntry], source: Path, target: Path, progress: Progress) -> list[FileEntry]:
    """Copy `entries` and put them on disk; returns those whose content read wrong (another size or hash).

    `progress` is called on the calling thread. Raises Refused for a symbolic link, OSError. READERS threads read and
    write, small files whole and large ones in blocks; the calling thread hashes the large ones in order.
    """
    large = [entry for entry in entries if entry.size_bytes > BLOCK_BYTES]
    small = [entry for entry in entries if entry.size_bytes <= BLOCK_BYTES]
    done_bytes, total_bytes = 0, sum(entry.size_bytes for entry in entries)
    wrong: list[FileEntry] = []
    with (
        _descriptor(source, os.O_DIRECTORY) as source_fd,
        ThreadPoolExecutor(READERS, thread_name_prefix="copy") as readers,
        ThreadPoolExecutor(1, thread_name_prefix="flush") as flusher,
    ):
        copied = [readers.submit(_copy_small, source_fd, target, entry) for entry in small]
        flushes: list[Future[None]] = []
        for entry in large:
            with _opened(source_fd, target, entry) as (input_fd, output_fd):
                if os.fstat(input_fd).st_size != entry.size_bytes:
                    wrong.append(entry)
                    continue
                sha256, unflushed_bytes = hashlib.sha256(), 0
                cloned = _clone(input_fd, output_fd)
                for block in _blocks(readers, input_fd, output_fd, entry.size_bytes, cloned=cloned):
                    sha256.update(block)
                    done_bytes += len(block)
                    unflushed_bytes += len(block)
                    progress(done_bytes, total_bytes)
                    if unflushed_bytes >= _FLUSH_BYTES:
                        flushes.append(flusher.submit(_flush, os.dup(output_fd)))
                        unflushed_bytes = 0
                flushes.append(flusher.submit(_flush, os.dup(output_fd)))
                if sha256.hexdigest() != entry.sha256 or os.fstat(output_fd).st_size != entry.size_bytes:
                    wrong.append(entry)
        wrong += [entry for entry, is_whole in zip(small, copied, strict=True) if not is_whole.result()]
        for flush in flushes:
            flush.result()
        progress(total_bytes, total_bytes)
    return wrong


def _copy_small(source_fd: int, target: Path, entry: FileEntry) -> bool:
    """Copy a file in one read. Returns whether its content is right."""
    with _opened(source_fd, target, entry) as (input_fd, output_fd):
        content = _copy_block(input_fd, output_fd, 0, entry.size_bytes + 1)
        os.fsync(output_fd)
    return len(content) == entry.size_bytes and hashlib.sha256(content).hexdigest() == entry.sha256


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
def _opened(source_fd: int, target: Path, entry: FileEntry) -> Iterator[tuple[int, int]]:
    """Descriptors of an entry's file in both folders. Raises Refused for a symbolic link on the way; OSError."""
    *folders, name = Path(entry.path).parts
    with contextlib.ExitStack() as stack:
        folder_fd = source_fd
        try:
            for folder in folders:  # step by step, each without following a link: it could lead anywhere
                folder_fd = stack.enter_context(_descriptor(folder, os.O_DIRECTORY | os.O_NOFOLLOW, folder_fd))
            input_fd = stack.enter_context(_descriptor(name, os.O_NOFOLLOW | os.O_NONBLOCK, folder_fd))
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Refused(entry.path, "a symbolic link inside a published version") from error
            raise
        if not stat.S_ISREG(os.fstat(input_fd).st_mode):
            raise Refused(entry.path, "not a file")
        file = target / entry.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)  # of a first try: nobody may write to it any more
        yield input_fd, stack.enter_context(_descriptor(file, os.O_RDWR | os.O_CREAT | os.O_EXCL))


@contextlib.contextmanager
def _descriptor(path: Path | str, flags: int, folder_fd: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o400, dir_fd=folder_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _clone(input_fd: int, output_fd: int) -> bool:
    """Make the output share the input's blocks, copy on write. False where the file systems can't, or are two."""
    try:
        fcntl.ioctl(output_fd, _FICLONE, input_fd)
    except OSError:
        return False
    return True


def _blocks(
    readers: ThreadPoolExecutor, input_fd: int, output_fd: int, size_bytes: int, *, cloned: bool
) -> Iterator[bytes]:
    """The file's blocks in order, each already in the output; a few are always in flight. Of a clone the output is
    read, which nobody changes any more."""
    read = functools.partial(_read_block, output_fd) if cloned else functools.partial(_copy_block, input_fd, output_fd)
    pending: deque[Future[bytes]] = deque()
    try:
        for offset in range(0, size_bytes, BLOCK_BYTES):
            length = min(BLOCK_BYTES, size_bytes - offset)
            pending.append(readers.submit(read, offset, length))
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


def _read_block(input_fd: int, offset: int, length: int) -> bytes:
    block = os.pread(input_fd, length, offset)
    while len(block) < length:
        more = os.pread(input_fd, length - len(block), offset + len(block))
        if not more:
            break  # cut short since it was opened: the hash will tell
        block += more
    return block


def _copy_block(input_fd: int, output_fd: int, offset: int, length: int) -> bytes:
    block = _read_block(input_fd, offset, length)
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
