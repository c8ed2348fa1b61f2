"""Which files a source has, and how they are dealt to shards: it follows from the input, never from the workers."""

from pathlib import Path

from domainlm.tasks.manifest import Part
from domainlm.tasks.readers import FORMATS, Format
from domainlm.tasks.readers.shards import SourceFile, Stamp

FILES_A_SHARD = 1_000  # of formats with one document a file


class UnsafePath(ValueError):
    """A source's file lies outside its directory, or is a link in a circle."""


def find_files(root: Path, pattern: str) -> list[Path]:
    """The files below `root` that fit a glob pattern, by name. Raises FileNotFoundError if none does, UnsafePath for
    what leads out of `root`."""
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise UnsafePath(f"{pattern!r} leads out of {root}. Give a pattern relative to the data directory (`--data`).")
    files = sorted(path for path in root.glob(pattern) if path.is_file() or path.is_symlink())
    if not files:
        raise FileNotFoundError(f"{pattern!r} finds no file in {root.resolve()}. Is the data directory the right one?")
    for path in files:
        _check_path(root, path.relative_to(root).as_posix())
    return [path for path in files if path.is_file()]


def local_files(part: Part, format: str) -> list[SourceFile]:
    """The files of a part, large ones cut into spans that each stand alone, by name and place."""
    files = []
    for name in sorted(part.files):
        _check_path(part.root, name)
        path = part.root / name
        spans = FORMATS[format].spans(path)
        files += [SourceFile(name, path=path, span=span, stamp=Stamp.of(path)) for span in spans]
    return files


def dealt(files: list[SourceFile], format: Format) -> list[tuple[SourceFile, ...]]:
    """The files of each shard."""
    size = FILES_A_SHARD if format.one_document_a_file else 1
    return [tuple(files[start : start + size]) for start in range(0, len(files), size)]


def _check_path(root: Path, name: str) -> None:
    """Raises UnsafePath for a name, or a link, that leads out of `root` or in a circle."""
    try:
        inside = (root / name).resolve(strict=True).is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: Python 3.11's word for a circle
        raise UnsafePath(f"{name!r} in {root} cannot be followed: {error}. Remove it from the source.") from None
    if not inside or ".." in Path(name).parts:
        raise UnsafePath(f"{name!r} leads out of {root}. Copy the file there, or make its directory the source's.")
