"""Cuts the elements of some names out of a stream of XML or SGML, so that each can be parsed, or fail, alone."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from domainlm.tasks.readers.record import MAX_RECORD_BYTES
from domainlm.tasks.readers.streams import BrokenStream, chunks

_TAG_BYTES = 64  # of a chunk's end that may hold the beginning of a tag
CutElement = tuple[int, bytes, str]


def elements(path: Path, names: Sequence[str]) -> Iterator[CutElement]:
    """(byte offset, bytes, fault) of each element, one in memory; they must not lie in each other.

    A fault is why an element is not whole; it is empty for the others.
    """
    opening = re.compile(rb"<(" + b"|".join(name.encode() for name in names) + rb")(?=[\s>])")
    buffer, offset = b"", 0  # what is not cut yet, and where it begins
    try:
        for chunk in chunks(path):
            buffer += chunk
            at = 0
            while match := opening.search(buffer, at):
                closing = b"</" + match[1] + b">"
                end = buffer.find(closing, match.end())
                if end < 0:
                    break
                at = end + len(closing)
                yield offset + match.start(), buffer[match.start() : at], ""
            drop = match.start() if match else max(at, len(buffer) - _TAG_BYTES)
            buffer, offset = buffer[drop:], offset + drop
            if len(buffer) > MAX_RECORD_BYTES:
                yield offset, buffer, f"an element of more than {MAX_RECORD_BYTES:,} bytes"
                buffer, offset = b"", offset + len(buffer)
    except BrokenStream as error:
        begun = match.start() if (match := opening.search(buffer)) else 0
        yield offset + begun, buffer[begun:], str(error)
        return
    if match := opening.search(buffer):
        yield offset + match.start(), buffer[match.start() :], f"the file ends inside <{match[1].decode()}>"
