"""Train: the trainer under torchrun, on a mixture of token shards; from scratch, or on from given weights.

In:  mixture           mixture.json
     tokenizer         files of the tokenizer directory
     corpus.<source>   token shards, one directory for each corpus of the mixture
     init_from         a Hugging Face directory to continue from (only where the config has no `model`)
     trunk             the state of a run at a flat rate that this one goes on from
     held_out          text to look at while training (`tokenize_held_out`); it decides no byte, so it is in no key
Out: model/            a Hugging Face directory: config.json, model.safetensors, generation_config.json, tokenizer
     state/            of a run with schedule `constant`: weights and moments, for others to go on from
Records (evidence, not content): train.json, train.log, metrics.jsonl, held_out.jsonl, events.jsonl, checkpoints/,
done.json, and where there was trouble skipped.json, quarantine.jsonl (documents that a loss spike was traced to),
microbatch.json

A run that was stopped or killed goes on from its last checkpoint when the stage is built again.
"""

import json
from dataclasses import replace
from pathlib import Path

from domainlm.tasks import progress
from domainlm.tasks.manifest import Books
from domainlm.tasks.mix import CORPUS
from domainlm.tasks.processes import Preempted, ProcessFailed, failure, last_object, run_program
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.tokenize import tokenizer_directory
from domainlm.trainer.config import TrainConfig
from domainlm.trainer.job import EXIT_PREEMPTED, STATE, HeldOutJob, Place, TrainJob, outcome, save_job
from domainlm.trainer.launch import Launch, unattended_command
from domainlm.trainer.ledger import Accounting, Ledger
from domainlm.trainer.mixture import Mixture, load_mixture
from domainlm.trainer.skips import untrained_steps
from domainlm.trainer.status import read_status
from domainlm.trainer.trackers import Tracking

RECORDS = (
    "train.json",
    "train.log",
    "metrics.jsonl",
    "held_out.jsonl",
    "events.jsonl",
    "checkpoints",
    "done.json",
    "stopped.json",
    "signs",
    "verified.json",
    "microbatch.json",
    "skipped.json",
    "quarantine.jsonl",
    "crash-report.json",
    "tracker.log",
    "tracking",
)


@stage(version=3, disk_factor=0.5, resumes=True)
def train(config: TrainConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Train to the end of the token budget, or raise `Preempted` with a checkpoint to go on from."""
    job = make_job(config, inputs, out, runtime)
    mixture = load_mixture(job.mixture)
    if outcome(out) != "done":  # killed between the end of training and sealing
        run(job, mixture, runtime)
    accounting = Ledger(mixture, job.corpora, untrained_steps(out)).accounting()
    done = json.loads((out / "done.json").read_text())
    check_tokens(accounting, done["tokens"], done["skipped_tokens"])
    trained = {f"tokens.{corpus.corpus}": corpus.trained_tokens for corpus in accounting.corpora}
    last = last_object(out / "metrics.jsonl", "loss") or {}
    loss = {} if last.get("loss") is None else {"last_loss": float(str(last["loss"]))}
    names = ("tokens", "skipped_tokens", "trunk_tokens", "steps", "seconds", "parameters", "skipped_steps")
    figures = {name: done[name] for name in names}
    return Books(counts={**figures, **loss, **trained}, records=RECORDS)


def make_job(config: TrainConfig, inputs: Inputs, out: Path, runtime: Runtime) -> TrainJob:
    """All that the trainer is told: what to train, where its inputs lie, how wide to run."""
    corpora = {name.removeprefix(CORPUS): part.root for name, part in inputs.items() if name.startswith(CORPUS)}
    return TrainJob(
        config=config,
        mixture=inputs["mixture"].paths()[0].resolve(),
        corpora={name: corpora[name].resolve() for name in sorted(corpora)},
        tokenizer=tokenizer_directory(inputs).resolve(),
        init_from=model_directory(inputs, "init_from").resolve() if "init_from" in inputs else None,
        trunk=(inputs["trunk"].root / STATE).resolve() if "trunk" in inputs else None,
        output=out.resolve(),
        held_out=held_out_job(inputs, runtime),
        place=Place(
            device=runtime.device,
            microbatch_sequences=runtime.microbatch_sequences,
            activation_checkpointing=runtime.activation_checkpointing,
            compile=runtime.compile,
            shard_ranks=runtime.shard_ranks,
            checkpoint_every_s=runtime.checkpoint_every_s,
            keep_checkpoints=runtime.keep_checkpoints,
            keep_every_steps=runtime.keep_every_steps,
            hang_after_s=runtime.hang_after_s,
        ),
    )


def held_out_job(inputs: Inputs, runtime: Runtime) -> HeldOutJob | None:
    """What the trainer looks at while it trains, and how often."""
    if "held_out" not in inputs:
        return None
    return HeldOutJob(
        directory=inputs["held_out"].root.resolve(),
        tokens=runtime.held_out_tokens,
        every_tokens=runtime.held_out_every_tokens,
    )


def run(job: TrainJob, mixture: Mixture, runtime: Runtime) -> None:
    """One unattended run, with all the restarts that it takes."""
    save_job(job, job.output / "train.json")
    config, launch = job.output / "train.json", make_launch(job, runtime)
    launcher = runtime.training.launcher if runtime.training else ()
    command = [*launcher, *unattended_command(config, launch)]
    log = job.output / "train.log"
    code = run_program(
        "training", command, log=log, runtime=runtime, on_poll=lambda: report_progress(job.output, mixture)
    )
    ended = outcome(job.output)
    if ended == "preempted" or code == EXIT_PREEMPTED:
        raise Preempted(
            f"training was asked to stop and left a checkpoint in {job.output / 'checkpoints'}. Run the same build "
            "again, and it goes on from there."
        )
    if ended == "stopped":
        raise ProcessFailed(f"training stopped: {json.loads((job.output / 'stopped.json').read_text())['reason']}")
    if ended == "failed":
        raise failure("training", code, log)
    report_progress(job.output, mixture)


def make_launch(job: TrainJob, runtime: Runtime) -> Launch:
    """On how many nodes, with how many processes, shown where.

    Raises:
        ValueError: the tracker is not installed.
    """
    tracking = None
    if runtime.tracker is not None:
        local = None if runtime.tracker_to else runtime.store.resolve() / "tracking"
        name = job.output.name.removesuffix(".partial")
        tracking = Tracking(runtime.tracker, runtime.tracker_to, runtime.tracker_project, name, local)
    launch = Launch(processes=runtime.processes, max_restarts=runtime.max_restarts, tracking=tracking)
    spread = runtime.training
    return replace(launch, nodes=spread.nodes, rendezvous=spread.rendezvous) if spread else launch


def report_progress(output: Path, mixture: Mixture) -> None:
    """Tell the watcher how far the run is, and how well."""
    status = read_status(output, mixture.num_steps)
    if status is not None:
        total = mixture.num_steps * mixture.batch_tokens
        progress.report(status.tokens, total, "tokens", status.figures(between=", "))


def check_tokens(accounting: Accounting, trained: int, skipped: int) -> None:
    """The token budget is what was trained on, what was skipped, and the rest that fills no step; run and ledger agree.

    Raises:
        ValueError: they do not.
    """
    said = sum(corpus.trained_tokens for corpus in accounting.corpora)
    left = sum(corpus.skipped_tokens for corpus in accounting.corpora)
    if (said, left) != (trained, skipped) or said + left + accounting.remainder_tokens != accounting.token_budget:
        raise ValueError(
            f"the run trained on {trained:,} tokens and skipped {skipped:,}; the ledger accounts for {said:,} and "
            f"{left:,}, and for {accounting.remainder_tokens:,} that are left of a budget of "
            f"{accounting.token_budget:,}. Nothing was sealed; please report this."
        )


def model_directory(inputs: Inputs, name: str) -> Path:
    """The directory that the config.json of a model input lies in."""
    for path in inputs[name].paths():
        if path.name == "config.json":
            return path.parent
    raise FileNotFoundError(
        f"{inputs[name].origin} has no config.json but {', '.join(inputs[name].files[:8])}; give a Hugging Face model "
        "directory (config.json, model.safetensors, tokenizer.json)."
    )
