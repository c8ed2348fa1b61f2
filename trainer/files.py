"""Writing that survives a power cut and a full disk: all or nothing, and flushed before it counts."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def fsync(path: Path) -> None:
    """Force a file's bytes, or a directory's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`: a reader sees the old file or the new one, also after a crash."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        fsync(partial)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path` by `value` as JSON."""
    write_atomically(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


class Lines:
    """A file of JSON lines that is appended to. What a full disk does not take waits in memory for the next line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []

    @property
    def is_complete(self) -> bool:
        """Whether all lines are in the file."""
        return not self._waiting

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line, and those that wait."""
        self._waiting.append(json.dumps(line) + "\n")
        self.flush()

    def flush(self) -> None:
        """Write the lines that wait; what does not fit is taken back, so that no line is ever half there."""
        if not self._waiting:
            return
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size, data = os.fstat(descriptor).st_size, "".join(self._waiting).encode()
            try:
                if os.write(descriptor, data) == len(data):
                    self._waiting.clear()
                    return
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
            os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        """Force the lines to disk.

        Raises:
            OSError: not all of them fit.
        """
        self.flush()
        if self._waiting:
            raise OSError(errno.ENOSPC, f"{len(self._waiting)} lines of {self.path.name} do not fit on the disk")
        if self.path.exists():
            fsync(self.path)
