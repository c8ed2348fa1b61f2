"""Run by test_matrix.py: `matrix.py STOP_STEP [[RANKS, [train.json, ...]], ...]`, one job after the other."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from domainlm.trainer import fsdp
from domainlm.trainer.assemble import assemble
from domainlm.trainer.job import load_job
from domainlm.trainer.launch import Launch
from domainlm.trainer.launcher import run_ranks
from domainlm.trainer.loop import Run
from domainlm.trainer.ranks import join
from domainlm.trainer.supervisor import supervise


def train_all(paths: list[str], stop_step: int) -> int:
    jobs = [load_job(Path(path)) for path in paths]
    ranks = join("cpu", shard_ranks=jobs[0].place.shard_ranks)
    if ranks.num_ranks == 4:
        fsdp.KEEP_WHOLE = 0  # as models are run that are too large to be whole on one rank
    for job in jobs:
        run = Run(job, ranks, assemble(job, ranks))
        step = run._step

        def watched(batch: Any, *, data_s: float = 0.0, run: Run = run, step: Any = step) -> Any:
            run.stop_asked = batch.step == stop_step  # as SIGTERM would
            return step(batch, data_s=data_s)

        run._step = watched  # type: ignore[method-assign]
        run.train()
    ranks.barrier()
    return 0


if __name__ == "__main__":
    for num_ranks, paths in json.loads(sys.argv[2]):  # each agent in a process that has no threads yet, as in a run
        work = partial(run_ranks, Launch(num_ranks), partial(train_all, paths, int(sys.argv[1])))
        log = Path(paths[0]).with_suffix(".ranks.log")
        if supervise(work, log=log, poll_s=0.1) != 0:
            sys.exit(log.read_text())
