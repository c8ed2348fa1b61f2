"""Evaluate: one model on the recipe's benchmarks and on held-out text, in a process of its own.

In:  model              a Hugging Face directory
     benchmark.<name>   the file of each benchmark
     held_out.<source>  held-out documents (Parquet), any number of sources
Out: scores.json        list of `domainlm.eval.scores.Score`
     samples/           what the model answered, question by question and document by document
Records: evaluate.json, evaluate.log, done.json
"""

import dataclasses
import json
from pathlib import Path
from typing import cast

from pydantic import BaseModel, ConfigDict, Field, field_validator

from domainlm.eval.config import EvaluateConfig, Job, Place, Weights
from domainlm.tasks import progress
from domainlm.tasks.manifest import Books
from domainlm.tasks.processes import Preempted, failure, last_object, python_module, run_program
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.train import model_directory

BENCHMARK, HELD_OUT = "benchmark.", "held_out."
RECORDS = ("evaluate.json", "evaluate.log", "done.json")


class EvaluateStageConfig(BaseModel):
    """What one model is asked, and whether with its weights or as its untrained twin."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Evaluate a model")

    evaluate: EvaluateConfig = Field(title="Evaluation", description="Benchmarks, held-out text, precision, seed.")
    weights: Weights = Field(
        "trained", title="Weights", description="`untrained` draws new weights for the same architecture: the floor."
    )

    @field_validator("evaluate")
    @classmethod
    def _paths_are_place(cls, evaluate: EvaluateConfig) -> EvaluateConfig:
        """A benchmark's file enters as an input, by its bytes: where it lies may not decide the key."""
        benchmarks = tuple(dataclasses.replace(one, path=BENCHMARK + one.name) for one in evaluate.benchmarks)
        return dataclasses.replace(evaluate, benchmarks=benchmarks)


@stage(version=1, disk_factor=0.0)
def evaluate(config: EvaluateStageConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Run the evaluation, and count what was asked."""
    job = make_job(config, inputs, out, runtime)
    (out / "evaluate.json").write_text(json.dumps(dataclasses.asdict(job), indent=1, default=str) + "\n")
    log = out / "evaluate.log"
    command = python_module("domainlm.eval", out / "evaluate.json")
    code = run_program("evaluation", command, log=log, runtime=runtime, on_poll=lambda: forward(log))
    if not (out / "done.json").is_file():
        if progress.stop_requested():
            raise Preempted("the evaluation was asked to stop. Run the same build again: it begins afresh.")
        raise failure("evaluation", code, log)
    done = json.loads((out / "done.json").read_text())
    asked = {f"questions.{name}": entry["num_items"] for name, entry in done["benchmarks"].items()}
    read = {f"documents.{source}": entry["num_items"] for source, entry in done["held_out"].items()}
    figures = {name: done[name] for name in ("parameters", "context_tokens", "seconds")}
    return Books(counts={**figures, **asked, **read}, records=RECORDS)


def make_job(config: EvaluateStageConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Job:
    """All that the evaluation is told; raises ValueError where a benchmark has no file."""
    wanted = {BENCHMARK + one.name for one in config.evaluate.benchmarks}
    given = {name for name in inputs if name.startswith(BENCHMARK)}
    if wanted != given:
        raise ValueError(
            f"the recipe evaluates {_names(wanted)}, and the files given are {_names(given)}; they must be the same."
        )
    benchmarks = tuple(
        dataclasses.replace(one, path=str(inputs[one.path].paths()[0].resolve())) for one in config.evaluate.benchmarks
    )
    held_out = {name: inputs[name].paths()[0].parent for name in sorted(inputs) if name.startswith(HELD_OUT)}
    shared = {field.name: getattr(config.evaluate, field.name) for field in dataclasses.fields(EvaluateConfig)}
    return Job(
        **{**shared, "benchmarks": benchmarks},
        model=model_directory(inputs, "model").resolve(),
        weights=config.weights,
        output=out.resolve(),
        held_out={name.removeprefix(HELD_OUT): directory.resolve() for name, directory in held_out.items()},
        place=Place(device=runtime.device, batch_size=runtime.evaluate_batch),
    )


def forward(log: Path) -> None:
    """Tell the watcher what the evaluation last said of its progress."""
    line = last_object(log, "progress")
    if line is not None:
        said = cast("dict[str, str]", line["progress"])
        progress.report(float(said["done"]), float(said["total"]), said["unit"], said["note"])


def _names(inputs: set[str]) -> str:
    return ", ".join(sorted(name.removeprefix(BENCHMARK) for name in inputs)) or "nothing"
