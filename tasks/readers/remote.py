"""Remote files: fetched once to a temporary file, their digest taken on the way and held against what was pinned."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import fsspec
from pydantic import BaseModel, ConfigDict, Field

CHUNK_BYTES = 1 << 20


class ChangedRemote(ValueError):
    """A remote file is not the one that the recipe pinned."""


class RemoteFile(BaseModel):
    """A file at a URL, pinned by its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Remote file")

    url: str = Field(
        title="URL",
        description="https, http, s3 or gs.",
        pattern=r"^(https?|s3|gs)://[^\s/]+/\S*[^\s/]$",
        max_length=2000,
    )
    sha256: str | None = Field(
        None,
        title="SHA-256",
        description="Of the file as it is served; none is a floating file.",
        pattern="^[0-9a-f]{64}$",
    )


@contextmanager
def fetched(remote: RemoteFile, directory: Path) -> Iterator[tuple[Path, str]]:
    """The file under a temporary name with its own suffixes, and its digest; gone afterwards.

    Raises ChangedRemote if the digest is not the pinned one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{hashlib.sha256(remote.url.encode()).hexdigest()[:16]}-{_file_name(remote.url)}"
    digest = hashlib.sha256()
    try:
        with fsspec.open(remote.url, "rb") as source, path.open("wb") as target:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                target.write(chunk)
        if remote.sha256 not in (None, digest.hexdigest()):
            raise ChangedRemote(
                f"{remote.url} has sha256 {digest.hexdigest()}, and the recipe pins {remote.sha256}. "
                "It was changed at its origin: look at it, then pin the new digest."
            )
        yield path, digest.hexdigest()
    finally:
        path.unlink(missing_ok=True)


def _file_name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name[-100:]
