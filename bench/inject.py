"""Breaks the trainer from outside, as `FAULT` says: `FAULT={"kind": "nan", "steps": [5]}`, `-m bench.inject trainer`.

    nan     the loss of these steps is not a number, on `rank` alone
    oom     a forward of more than `sequences` sequences asks the system for more memory than there is, from step
            `from_step` on (and in a probe)
    crash   these steps raise, every time

The faults of processes, machines and disks need no injection here: `bench.faults` kills, stops and fills for real.
"""

import importlib
import json
import os
import sys
from typing import Any

import torch


def main() -> int:
    """Break the package of the module that is named first, and run it."""
    module = sys.argv[1]
    package = module.partition(".trainer")[0] + ".trainer" if ".trainer" in module else "trainer"
    fault = json.loads(os.environ["FAULT"])
    if int(os.environ.get("RANK", "0")) == fault.get("rank", 0):
        inject(package, fault)
    code: int = importlib.import_module(f"{package}.launcher").run_program(sys.argv[1:])
    return code


def inject(package: str, fault: dict[str, Any]) -> None:
    """Put the fault between the loop and the model."""
    loop, model = (importlib.import_module(f"{package}.{name}") for name in ("loop", "model"))
    at = {"step": fault.get("from_step", 0)}  # until a step says otherwise: a probe has none
    run_step, forward = loop.Run._forward_backward, model.LanguageModel.forward

    def remember(self: Any, batch: Any) -> torch.Tensor:
        at["step"] = batch.step
        loss: torch.Tensor = run_step(self, batch)
        return loss

    def broken(self: Any, input_ids: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = forward(self, input_ids, *others)
        if fault["kind"] == "nan" and at["step"] in fault["steps"] and torch.is_grad_enabled():
            return loss * torch.nan
        if fault["kind"] == "crash" and at["step"] in fault["steps"]:
            raise RuntimeError(f"injected crash at step {at['step']}")
        if fault["kind"] == "oom" and len(input_ids) > fault["sequences"] and at["step"] >= fault.get("from_step", 0):
            torch.empty(2**50, dtype=torch.uint8)  # the system's own refusal
        return loss

    loop.Run._forward_backward = remember
    model.LanguageModel.forward = broken


if __name__ == "__main__":
    sys.exit(main())
