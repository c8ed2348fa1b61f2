"""Remote files: fetched once to a temporary file, their digest taken on the way and held against what was pinned.

A data set of the Hugging Face Hub is remote files too: those of a repository at a commit, which the hub lists with a
digest each. They stream: a worker holds one file at a time, and nothing goes into a cache.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

import fsspec
from aiohttp import ClientError
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]  # httpx's or httpx2's
from huggingface_hub.hf_api import RepoFile
from pydantic import BaseModel, ConfigDict, Field

from domainlm.tasks.readers.record import optional_package

CHUNK_BYTES = 1 << 20
CREDENTIALS = {
    "s3": " (AWS_ACCESS_KEY_ID or a profile)",
    "gs": " (GOOGLE_APPLICATION_CREDENTIALS)",
    "hf": " (HF_TOKEN)",
}
EXTRAS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs")}
HUB = "hf"


class HubUnreachable(OSError):
    """The Hugging Face Hub did not say what a repository holds."""


class UnreachableRemote(OSError):
    """A remote file is not there, or may not be read from here."""


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


class HubDataset(BaseModel):
    """A data set of the Hugging Face Hub at a commit."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Hub data set")

    repository: str = Field(title="Repository", description="`owner/name`.", pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = Field(
        title="Revision", description="The commit, 40 hex digits: a branch or a tag moves.", pattern="^[0-9a-f]{40}$"
    )
    files: str = Field(
        "*.parquet",
        title="Files",
        description="Pattern of the files' paths in the repository; `*` goes through folders.",
        min_length=1,
    )

    def listed(self) -> list["Pinned"]:
        """The files at that commit, by path, each with its digest. Raises HubUnreachable, FileNotFoundError."""
        try:
            tree = list(
                HfApi().list_repo_tree(
                    self.repository, None, recursive=True, revision=self.revision, repo_type="dataset"
                )
            )
        except OfflineModeIsEnabled:
            raise HubUnreachable(
                f"{self.repository} at {self.revision} is on the Hugging Face Hub, and HF_HUB_OFFLINE is set: unset "
                "it, or give the source a `path` to a copy on this machine."
            ) from None
        except HTTPError as error:
            raise HubUnreachable(
                f"{self.repository} at {self.revision}: {error}. Does the commit exist, and is HF_TOKEN set if the "
                "data set is private or gated?"
            ) from None
        files = [entry for entry in tree if isinstance(entry, RepoFile) and fnmatchcase(entry.path, self.files)]
        if not files:
            found = ", ".join(sorted(entry.path for entry in tree if isinstance(entry, RepoFile))[:10])
            raise FileNotFoundError(
                f"{self.files!r} fits no file of {self.repository} at {self.revision}; it holds {found or 'nothing'}."
            )
        root = f"{HUB}://datasets/{self.repository}@{self.revision}"
        return [
            Pinned(f"{root}/{file.path}", file.lfs.sha256 if file.lfs else None, None if file.lfs else file.blob_id)
            for file in sorted(files, key=lambda file: file.path)
        ]


@dataclass(frozen=True)
class Pinned:
    """A remote file as it must be: its sha256, or the id that git gives its content, or neither."""

    url: str
    sha256: str | None = None
    git_blob: str | None = None


@contextmanager
def fetched(remote: Pinned, directory: Path) -> Iterator[tuple[Path, str]]:
    """The file under a temporary name with its own suffixes, and its digest; gone afterwards.

    Raises UnreachableRemote, ChangedRemote if it is not the pinned one, MissingExtra if its place needs a package that
    is not there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{hashlib.sha256(remote.url.encode()).hexdigest()[:16]}-{_file_name(remote.url)}"
    if (scheme := urlsplit(remote.url).scheme) in EXTRAS:
        optional_package(*EXTRAS[scheme])
    try:
        digest = _download(remote.url, path)
        _check(remote, path, digest)
        yield path, digest
    finally:
        path.unlink(missing_ok=True)


def _download(url: str, path: Path) -> str:
    """Copies to `path`; returns the digest. Raises UnreachableRemote."""
    try:
        with fsspec.open(url, "rb") as source, path.open("wb") as target:
            return _copied(source, target)
    except (FileNotFoundError, PermissionError, ClientError) as error:
        raise UnreachableRemote(
            f"{url} cannot be read ({type(error).__name__}: {error}). Is the address right, and does this machine have "
            f"what opens it{CREDENTIALS.get(urlsplit(url).scheme, '')}?"
        ) from None


def _copied(source: BinaryIO, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _check(remote: Pinned, path: Path, digest: str) -> None:
    """Raises ChangedRemote unless the file is what was pinned."""
    if remote.sha256 is not None and digest != remote.sha256:
        raise ChangedRemote(
            f"{remote.url} has sha256 {digest}, and {remote.sha256} is pinned. "
            "It was changed at its origin: look at it, then pin the new digest."
        )
    if remote.git_blob is not None and (found := _git_blob(path)) != remote.git_blob:
        raise ChangedRemote(f"{remote.url} has git id {found}, and its commit says {remote.git_blob}: fetch it again.")


def _git_blob(path: Path) -> str:
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _file_name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name[-100:]
