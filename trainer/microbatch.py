"""The microbatch that fits: `microbatch.json`, where it is smaller than the one that was asked for.

Too little memory is found in a process of its own before the run, or ends a run; the supervisor then halves it. It is
never tried again in the process that ran out: gradients that were half accumulated would be used (norm 2.67 for 1.57).
Only rounding depends on it: the step has the same sequences, and the loss is their mean.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from . import strict
from .files import write_json
from .job import TrainJob

ALLOCATION_FAILED = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


@dataclass(frozen=True)
class Microbatch:
    """Sequences that a rank forwards at once, instead of those asked for in train.json."""

    asked: int
    sequences: int
    proven: bool
    """Whether a probe or a run has shown that it fits."""


def load_microbatch(job: TrainJob) -> Microbatch:
    """What is known of this job; another wish in train.json makes it begin anew."""
    asked, path = job.place.microbatch_sequences, job.output / "microbatch.json"
    known = strict.load(Microbatch, path) if path.is_file() else None
    return known if known is not None and known.asked == asked else Microbatch(asked, asked, proven=False)


def save_microbatch(microbatch: Microbatch, output: Path) -> None:
    """Make it last over restarts."""
    write_json(output / "microbatch.json", asdict(microbatch))


def halved(microbatch: Microbatch) -> Microbatch | None:
    """The next one to try; None after one sequence."""
    if microbatch.sequences == 1:
        return None
    return Microbatch(microbatch.asked, microbatch.sequences // 2, proven=False)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out. On a CPU torch says so in a plain RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorError"):
        return isinstance(error, MemoryError) or "out of memory" in str(error)
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in ALLOCATION_FAILED)
