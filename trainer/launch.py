"""How ranks are started: on this machine alone, or on each of several nodes that meet at one address."""

import argparse
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import trackers
from .trackers import Tracking

ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # the old name, which all versions know, and the new


@dataclass(frozen=True)
class Launch:
    """One supervisor's part of a run."""

    processes: int
    """Ranks on this node."""
    nodes: str = "1"
    """How many nodes: `2`, or `1:2` to go on with one where the other is lost."""
    rendezvous: str | None = None
    """host:port of the node where they meet; it must come back if it is lost itself."""
    last_call_s: int = 30
    """How long more nodes than the least are waited for."""
    max_restarts: int = 3
    """Crashes without a new checkpoint in between after which there are no more starts."""
    backoff_s: float = 1.0
    """Wait before the second restart in a row; it doubles each time."""
    grace_s: float = 60.0
    """Time to write a checkpoint when asked to stop."""
    wrapper: tuple[str, ...] = ()
    """Python module and arguments that run the trainer's module, which follows them."""
    tracking: Tracking | None = None
    """Where the run is shown."""

    def __post_init__(self) -> None:
        if self.waits_for_nodes and self.rendezvous is None:
            raise ValueError(f"{self.nodes} nodes need an address to meet at; give `--rendezvous host:port`.")

    @property
    def waits_for_nodes(self) -> bool:
        """Whether there is more than this machine."""
        return self.nodes != "1"


def environment(launch: Launch) -> Mapping[str, str]:
    """Ours, and what ranks that are forked need: time to save, and no store shared with them between nodes.

    Devices are counted without CUDA, which a process that forks must not start.
    """
    more = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(int(launch.grace_s)), "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    if launch.processes > 1 and "OMP_NUM_THREADS" not in os.environ:
        more["OMP_NUM_THREADS"] = "1"  # as torchrun does
    if launch.waits_for_nodes:
        more["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return {**growing_segments(), **more}


def growing_segments() -> Mapping[str, str]:
    """Our environment, in which torch gives out memory on CUDA in segments that grow, unless it says otherwise.

    None of those lies idle because it is too small.
    """
    told = any(name in os.environ for name in ALLOCATOR)
    return {**os.environ} if told else {**os.environ, ALLOCATOR[0]: "expandable_segments:True"}


def unattended_command(config: Path, launch: Launch) -> list[str]:
    """The command line that trains `config` unattended."""
    arguments = [f"--processes={launch.processes}", f"--nodes={launch.nodes}", f"--last-call-s={launch.last_call_s}"]
    arguments += [f"--rendezvous={launch.rendezvous}"] if launch.rendezvous else []
    arguments += [f"--max-restarts={launch.max_restarts}", f"--backoff-s={launch.backoff_s}"]
    arguments += [f"--grace-s={launch.grace_s}", *(f"--wrapper={part}" for part in launch.wrapper)]
    arguments += trackers.options(launch.tracking)
    package = __package__ or "trainer"
    return [sys.executable, "-m", f"{package}.unattended", "--config", str(config), *arguments]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m trainer.unattended`."""
    parser.add_argument("--config", type=Path, required=True, help="path of train.json")
    parser.add_argument("--processes", type=int, default=1, help="ranks on this node")
    parser.add_argument("--nodes", default="1", help="2, or 1:2 to go on without a lost one")
    parser.add_argument("--rendezvous", help="host:port where the nodes meet")
    parser.add_argument("--last-call-s", type=int, default=30, help="how long nodes above the least are waited for")
    parser.add_argument("--max-restarts", type=int, default=3, help="restarts without a new checkpoint in between")
    parser.add_argument("--backoff-s", type=float, default=1.0, help="wait before the second restart in a row")
    parser.add_argument("--grace-s", type=float, default=60.0, help="time for a checkpoint when asked to stop")
    parser.add_argument("--wrapper", action="append", default=[], help="module (and arguments) that runs the trainer's")
    trackers.add_arguments(parser)


def given_launch(arguments: argparse.Namespace) -> Launch:
    """The launch that the options say."""
    return Launch(
        processes=arguments.processes,
        nodes=arguments.nodes,
        rendezvous=arguments.rendezvous,
        last_call_s=arguments.last_call_s,
        max_restarts=arguments.max_restarts,
        backoff_s=arguments.backoff_s,
        grace_s=arguments.grace_s,
        wrapper=tuple(arguments.wrapper),
        tracking=trackers.given_tracking(arguments),
    )
