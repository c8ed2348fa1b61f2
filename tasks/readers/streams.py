"""Bytes of plain, gzip or zstd files, up to the place where they break."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

CHUNK_BYTES = 1 << 16  # Arrow's zstd stream drops the read that meets the break, so that this much may be lost there
BROKEN = "broken stream"


class BrokenStream(ValueError):
    """A compressed file that ends too early or is damaged; what came before has been read."""


def chunks(path: Path) -> Iterator[bytes]:
    """The uncompressed bytes; raises BrokenStream after the last good ones."""
    try:
        with _opened(path) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenStream(f"{BROKEN} (gzip): {error}") from None
    except OSError as error:
        if path.suffix != ".zst" or error.errno is not None:  # Arrow's codec errors carry no errno
            raise
        raise BrokenStream(f"{BROKEN} (zstd): {error}") from None


class _Gzip:
    """A gzip file whose `read` hands out what it has before it meets the break."""

    def __init__(self, path: Path) -> None:
        self._file = gzip.open(path, "rb")  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> "_Gzip":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        return self._file.read1(size)


def _opened(path: Path) -> "_Gzip | BinaryIO":
    if path.suffix == ".gz":
        return _Gzip(path)
    if path.suffix == ".zst":
        return cast(BinaryIO, pa.input_stream(str(path), compression="zstd", buffer_size=None))
    return path.open("rb")
