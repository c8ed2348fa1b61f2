"""Every fault, injected for real, and what became of the run: `python -m bench.faults [--json] [--only NAME ...]`.

Two ranks on the CPU under `trainer.unattended`, from a plain checkout. A run has survived if it came to the end that
it should have: the same weights to the last bit as a run to which nothing happened, or where that cannot be (another
number of ranks or another microbatch adds in another order) the same loss at every step to 1e-5; and the clear stop
where there should be one. "Next step" is from the fault to the end of the next step. The same faults are then done to
the same trainer under `torchrun --max-restarts 3` alone, which is what one picks without a supervisor; spike, NaN and
disk are handled inside the trainer, and are not done twice.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import scenarios
from bench.faultbench import Bench, Found
from bench.faultworld import World


@dataclass(frozen=True)
class Row:
    """One line of the fault table."""

    fault: str
    survived: bool
    happened: str
    next_step_s: float | None
    same_bits: str
    torchrun: str = "-"


def main() -> None:
    """Do the worst, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", nargs="*", default=[], choices=sorted(scenarios.ALL))
    parser.add_argument("--alone", action="store_true", help="do not do the same to torchrun alone")
    parser.add_argument("--keep", type=Path, help="folder for the runs; it is kept")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        bench = Bench(World(folder / "world"))
        names = [name for name in scenarios.ALL if not arguments.only or name in arguments.only]
        rows = [measure(bench, name, against=not arguments.alone) for name in names]
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(table(rows))
    if arguments.json:
        print(json.dumps(summary(rows)))
    sys.exit(0 if all(row.survived for row in rows) else 1)


def measure(bench: Bench, name: str, *, against: bool) -> Row:
    """One scenario, and the same under torchrun alone where it can be done to it."""
    began_s = time.monotonic()
    scenario = scenarios.ALL[name]
    found = attempt(lambda: scenario(bench))
    other = "-"
    if against and name in scenarios.EXTERNAL:
        bench.plain = True
        plain = attempt(lambda: scenario(bench))
        bench.plain = False
        other = "survives" if plain.survived else f"lost: {plain.happened}"
    sys.stderr.write(f"{name}: {found} ({time.monotonic() - began_s:.0f} s)\n")
    same = {True: "yes", False: "NO", None: found.why_not_same}[found.same_bits]
    return Row(scenario.__doc__ or name, found.survived, found.happened, found.next_step_s, same, other)


def attempt(scenario: Callable[[], Found]) -> Found:
    """A scenario that fails in any way has not been survived."""
    try:
        return scenario()
    except Exception as error:  # noqa: BLE001 - the bench goes on with the next fault
        traceback.print_exc()
        return Found(False, f"{type(error).__name__}: {error}", None, False)


def table(rows: list[Row]) -> str:
    """The fault table in Markdown."""
    lines = ["| fault | what happened | next step, s | same bits | torchrun alone |", "|---|---|---|---|---|"]
    for row in rows:
        seconds = "-" if row.next_step_s is None else f"{row.next_step_s:.1f}"
        happened = row.happened if row.survived else f"**LOST**: {row.happened}"
        lines.append(f"| {row.fault} | {happened} | {seconds} | {row.same_bits} | {row.torchrun} |")
    return "\n".join(lines)


def summary(rows: list[Row]) -> dict[str, object]:
    """The last line for programs. `ours` and `theirs` count the faults that were done to both."""
    both = [row for row in rows if row.torchrun != "-"]
    ours, theirs = (sum(hit) for hit in ([row.survived for row in both], [row.torchrun == "survives" for row in both]))
    return {
        "survived_share": sum(row.survived for row in rows) / len(rows),
        "faults": len(rows),
        "ours": ours,
        "theirs": theirs,
        "ratio": ours / theirs if theirs else None,
        "unit": f"faults survived of the {len(both)} that torchrun --max-restarts 3 was given, too",
        "same_result": all(row.same_bits != "NO" for row in rows),
        "rows": [asdict(row) for row in rows],
    }


if __name__ == "__main__":
    main()
