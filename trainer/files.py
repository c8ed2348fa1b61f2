"""Writing that survives a power cut and a full disk: all or nothing, and flushed before it counts."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TAIL_BYTES = 16_384
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)


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


def hold(path: Path, wait_s: float = 60.0) -> None:
    """Be the only process that holds `path`, until this one ends: two writers would spoil each other's work.

    Raises:
        ValueError: another process on this machine still holds it after `wait_s`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline_s:
                raise ValueError(
                    f"another run still writes to {path.parent}; end it, or give another `output` directory."
                ) from error
            time.sleep(0.1)  # a rank of the attempt before may take a moment to end
        else:
            return  # the descriptor stays open, and the kernel lets go of the lock when the process ends


def last_lines(path: Path, start: int = 0) -> list[str]:
    """The whole lines at the end of a file, after byte `start`; it may be long, still growing, or not there yet."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        tail_start = max(start, file.seek(0, os.SEEK_END) - TAIL_BYTES)
        file.seek(tail_start)
        tail = file.read().decode(errors="replace")
    lines = tail.split("\n")[:-1]  # what follows the last newline is still being written
    return lines if tail_start == start else lines[1:]
