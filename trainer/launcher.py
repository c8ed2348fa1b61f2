"""The ranks of one attempt under torch's elastic agent: forks of a process that has imported what they need.

Importing torch and transformers takes longer than all else in a restart. The supervisor does it once, and a rank is
there in milliseconds, with its pages shared. It must never use a device itself: CUDA does not survive a fork. What one
gets is torchrun: the same agent, rendezvous and environment.
"""

import importlib
import signal
import sys
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from transformers import AutoModelForCausalLM

from . import __main__, probe  # noqa: F401 - for the ranks
from .config import ModelConfig
from .job import EXIT_FAILED, TrainJob
from .launch import Launch
from .model import fresh_config, given_config
from .ranks import end
from .supervisor import name_process


def preload(job: TrainJob) -> None:
    """Import what the ranks of this job would import late, but for FlashAttention 4, whose import starts CUDA.

    Raises:
        RuntimeError: something has started CUDA in this process.
    """
    config = fresh_config(job.config.model or ModelConfig(), vocab_size=2, bos_id=0, eos_id=1)
    if job.init_from is not None:
        config = given_config(job.init_from)
    _ = AutoModelForCausalLM._model_mapping[type(config)]
    if Path("/dev/nvidiactl").exists() and job.place.compile != "never":
        importlib.import_module("torch._inductor.compile_fx")
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise RuntimeError(
            "What torch and transformers import here has started CUDA, so that ranks, which are forks, could use no "
            "GPU. Find the package (`python -X importtime -m trainer --help` names all) and uninstall it; until then, "
            "`torchrun -m trainer --config train.json` trains without a supervisor."
        )


def launch_ranks(launch: Launch, config: Path, program: str = "trainer") -> None:
    """Run `trainer` or one of its modules on every rank, as `python -m` would but for the imports."""
    package = __package__ or "trainer"
    module = program.replace("trainer", package, 1)
    run_ranks(launch, partial(run_program, [*launch.wrapper, module, "--config", str(config)]))


def run_ranks(launch: Launch, work: Callable[[], int]) -> None:
    """Call `work`, which returns an exit code, on every rank of this node; ends this process if one fails."""
    name_process("launcher")
    try:
        elastic_launch(_where(launch), _rank)(work)
    except (ChildFailedError, SignalException) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_FAILED)


def run_program(arguments: list[str]) -> int:
    """The `main` of a module, or of a package's `__main__`, with these as the arguments of this process."""
    sys.argv = arguments
    module = importlib.import_module(arguments[0])
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{arguments[0]}.__main__")
    code: int = module.main()
    return code


def _where(launch: Launch) -> LaunchConfig:
    least, _, most = launch.nodes.partition(":")
    meeting: dict[str, Any] = {"rdzv_endpoint": "localhost:0", "run_id": uuid.uuid4().hex}
    if launch.waits_for_nodes:
        meeting = {"rdzv_endpoint": launch.rendezvous, "run_id": "domainlm"}
        meeting["rdzv_configs"] = {"last_call_timeout": launch.last_call_s}
    return LaunchConfig(
        min_nodes=int(least),
        max_nodes=int(most or least),
        nproc_per_node=launch.processes,
        rdzv_backend="c10d",
        max_restarts=0,
        start_method="fork",
        **meeting,
    )


def _rank(work: Callable[[], int]) -> None:
    """The agent waits for the return of a rank that ends well; one that does not is ended here, whatever still runs."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # they are the agent's
    code = work()
    if code:
        end(code)
