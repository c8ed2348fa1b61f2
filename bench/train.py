"""Training speed, ours against Hugging Face `Trainer` and a loop by hand: `python -m bench.train [--json] [--table]`.

One model, the same initial weights, sequences and learning rates, each contender (bench/contender.py) in a process of
its own; the steps after the first few count. `same_result`: the losses agree in every step. Documents are random
tokens of the lengths that abstracts and articles have; nothing is fetched. MFU is of 989 TFLOP/s, and of a matrix
product that is measured first.

`--table` is for one GPU: the contest at 125M, then 350M, 1.2B and 3B parameters with ours, in at most `--deadline-s`; a
microbatch that does not fit is halved. Raw output goes to bench/results/train-<device>.json.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import transformers

from bench.trainworld import make_job
from trainer.flops import PEAK_FLOPS
from trainer.job import Attention, Recompute, save_job
from trainer.launch import growing_segments

CONTENDERS = ("ours", "trainer", "plain", "varlen", "smeared")
SHOWN = {
    "ours": "this trainer",
    "varlen": "this trainer, with torch's own attention",
    "trainer": "Hugging Face `Trainer`",
    "plain": "a loop by hand",
    "smeared": "the same, documents not kept apart",
}
WARM_STEPS = 5
LOSS_TOLERANCE = {"bf16": 2e-2, "fp32": 1e-3}  # of the loss, in each step
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Setting:
    """What is trained."""

    preset: str
    sequence_tokens: int
    batch_sequences: int
    microbatch_sequences: int
    steps: int = 16
    activation_checkpointing: Recompute = "none"
    precision: Literal["bf16", "fp32"] = "bf16"
    attention: Literal["auto", Attention] = "auto"  # of ours
    ranks: int = 1  # of ours: GPUs of this machine

    @property
    def batch_tokens(self) -> int:
        """Tokens of a step."""
        return self.batch_sequences * self.sequence_tokens


TABLE = (
    Setting("llama-125m", 2048, 128, 64),
    Setting("llama-350m", 2048, 64, 32, steps=15),
    Setting("llama-1.2b", 4096, 32, 8, steps=12),
    Setting("llama-3b", 4096, 16, 4, steps=12),
)
ON_CUDA = TABLE[0]
ON_CPU = Setting("llama-6m", 512, 2, 1, steps=12, precision="fp32")


def main() -> None:
    """Measure, and print lines for people; the last one is an object for programs."""
    arguments = parse()
    until_s = time.monotonic() + arguments.deadline_s
    machine = contend(["matmul"], arguments.deadline_s)
    peak = float(machine["flops_per_s"])
    print(f"{machine['device']}: a matrix product at {peak / 1e12:.2f} TFLOP/s", file=sys.stderr)
    if arguments.ranks and arguments.contenders != ["ours"]:
        sys.exit("--ranks is for this trainer alone; say --contenders ours.")
    if arguments.table:
        contest, *others = TABLE
        plan = [(contest, name) for name in CONTENDERS[:3]] + [(setting, "ours") for setting in others]
        plan += [(contest, name) for name in CONTENDERS[3:]]
    else:
        plan = [(given(arguments), name) for name in arguments.contenders]
    about = {**surroundings(), "device": machine["device"], "matmul_tflops": peak / 1e12}
    rows: list[dict[str, Any]] = []
    for setting, name in plan:
        rows.append(measure(setting, name, peak, until_s))
        record = {**about, "rows": rows, **compared(rows)}
        if arguments.table:  # after each, for the machine may be taken away
            device = str(machine["device"]).lower().replace(" ", "-")
            (RESULTS / f"train-{device}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(json.dumps(record) if arguments.json else "\n".join(table(rows)))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object")
    parser.add_argument("--table", action="store_true", help="all sizes, on a GPU")
    parser.add_argument("--deadline-s", type=float, default=560, help="after which no contender is started any more")
    here = [name for name in CONTENDERS if name != "varlen" or torch.cuda.is_available()]  # on a CPU it is ours
    parser.add_argument("--contenders", nargs="+", choices=here, default=here)
    parser.add_argument("--preset")
    parser.add_argument("--sequence-tokens", type=int)
    parser.add_argument("--batch-sequences", type=int)
    parser.add_argument("--microbatch-sequences", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--activation-checkpointing", choices=("none", "selective", "full"))
    parser.add_argument("--precision", choices=("bf16", "fp32"))
    parser.add_argument("--ranks", type=int, help="of ours: GPUs of this machine")
    parser.add_argument("--attention", choices=("fa4", "documents", "flex_attention", "sdpa"), help="of ours")
    return parser.parse_args()


def given(arguments: argparse.Namespace) -> Setting:
    """The setting of this machine, with what the command line replaces."""
    setting = ON_CUDA if torch.cuda.is_available() else ON_CPU
    changes = {name: value for name, value in vars(arguments).items() if name in vars(setting) and value is not None}
    return replace(setting, **changes)


def measure(setting: Setting, name: str, peak: float, until_s: float) -> dict[str, Any]:
    """One contender; a microbatch that does not fit is halved."""
    if name == "varlen":
        setting = replace(setting, attention="documents")
    row: dict[str, Any] = {"contender": name, **vars(setting)}
    while True:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return {**row, "not_run": "the time was up"}
        result = run(setting, name, left_s)
        if "out_of_memory" not in result or setting.microbatch_sequences == 1:
            break
        setting = replace(setting, microbatch_sequences=setting.microbatch_sequences // 2)
        row["microbatch_sequences"] = setting.microbatch_sequences
    if "step_s" in result:
        result["tokens_per_s"] = setting.batch_tokens / statistics.median(result["step_s"][WARM_STEPS:])
        result["first_step_s"] = result["step_s"][0]
        flops = result["tokens_per_s"] * result["flops_per_token"] / setting.ranks
        known = PEAK_FLOPS.get(result["device"])
        result |= {"mfu": flops / known if known else None, "mfu_of_matmul": flops / peak}
    print(f"{setting.preset}, {SHOWN[name]}: {told(result)}", file=sys.stderr, flush=True)
    return {**row, **result}


def run(setting: Setting, name: str, left_s: float) -> dict[str, Any]:
    """What a contender came to on a job of its own."""
    with tempfile.TemporaryDirectory() as folder:
        save_job(make_job(setting, Path(folder)), Path(folder) / "train.json")
        return contend([name, f"{folder}/train.json"], left_s, setting.ranks)


def contend(arguments: Sequence[str], left_s: float, ranks: int = 1) -> dict[str, Any]:
    """The last line of a contender's output, or why there is none."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *torchrun, "-m", "bench.contender", *arguments]
    place: dict[str, Any] = {"cwd": RESULTS.parent.parent, "env": growing_segments()}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=left_s, **place)
    except subprocess.TimeoutExpired:
        return {"not_run": "the time was up"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"not_run": (done.stderr or done.stdout).strip()[-1500:] or f"ended with {done.returncode}"}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def compared(rows: Sequence[dict[str, Any]]) -> dict[str, object]:
    """Ours and the Hugging Face Trainer, of the setting that both have."""
    by_name = {row["contender"]: row for row in reversed(rows)}  # the first setting, where there are several
    mine, theirs = by_name.get("ours", {}), by_name.get("trainer", {})
    ours, other = mine.get("tokens_per_s"), theirs.get("tokens_per_s")
    same = None
    if ours and other:
        tolerance = LOSS_TOLERANCE[mine["precision"]]
        same = all(abs(a - b) <= tolerance * b for a, b in zip(mine["losses"], theirs["losses"], strict=True))
    return {
        "ours": round(ours) if ours else None,
        "theirs": round(other) if other else None,
        "ratio": round(ours / other, 2) if ours and other else None,
        "unit": f"tokens/s, {mine.get('preset')}, {mine.get('device')}",
        "same_result": same,
    }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown."""
    heads = ["model", "ranks", "sequence", "microbatch", "recomputed", "contender"]
    heads += ["tokens/s", "MFU", "of matmul", "peak GiB", "last loss"]
    lines = [f"| {' | '.join(heads)} |", "|---|--:|--:|--:|---|---|--:|--:|--:|--:|--:|"]
    for row in rows:
        about = ("preset", "ranks", "sequence_tokens", "microbatch_sequences", "activation_checkpointing")
        cells = [row[key] for key in about]
        figures = ["-"] * 5
        if "tokens_per_s" in row:
            shares = [f"{row[key]:.1%}" if row.get(key) else "-" for key in ("mfu", "mfu_of_matmul")]
            figures = [f"{row['tokens_per_s']:,.0f}", *shares, f"{row['peak_gib']:.1f}", f"{row['losses'][-1]:.4f}"]
        lines.append(f"| {' | '.join(str(cell) for cell in [*cells, SHOWN[row['contender']], *figures])} |")
    return lines


def told(result: dict[str, Any]) -> str:
    """One contender in words."""
    if "tokens_per_s" not in result:
        return f"NOT RUN: {result.get('not_run') or 'out of memory at one sequence'}"
    mfu = f", MFU {result['mfu']:.1%}" if result.get("mfu") else ""
    return f"{result['tokens_per_s']:,.0f} tokens/s{mfu}, {result['peak_gib']:.1f} GiB"


def surroundings() -> dict[str, object]:
    """When, with which versions."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


if __name__ == "__main__":
    main()
