"""Files that are whole or not at all, whatever kills the writer and whenever the disk is full."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that is there whole or not at all, in place of any that was there: where a link leads, if it is one. What
    is no file, as a pipe or a device, is written into.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with beside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def append_whole(path: Path, data: bytes) -> None:
    """Add to a file all of this or, where the disk is full, nothing."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        if file.write(data) < len(data):
            file.truncate(before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
