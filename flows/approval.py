"""Approval: a person says yes or no to a published model, by name and with a reason (`domainlm approve`).

What was said stands beside the sealed directories, one JSON object a line, and is never changed: of two decisions on
the same model the later one counts.

    store/<domain>/approvals.jsonl      {"directory", "key", "digest", "decision", "by", "reason", "verdict", "at"}

`approved:RECIPE` is then the newest model that somebody approved, wherever a recipe or a flow names weights, and
`continue-pretraining` can be told to go on from no other.
"""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from domainlm.flows.show import read_report, verdict_sentence
from domainlm.tasks.store import Sealed, Store

Decision = Literal["approved", "rejected"]
FILE = "approvals.jsonl"


class NotApproved(ValueError):
    """A model that nobody has approved, or that nobody should."""


@dataclass(frozen=True)
class Approval:
    """What a person decided on one published model, and what the paired tests said of it then."""

    directory: str
    key: str
    digest: str
    decision: Decision
    by: str
    reason: str
    verdict: str
    at: str


def decide(
    store: Store, model: Sealed, decision: Decision, *, by: str, reason: str, despite_verdict: bool = False
) -> Approval:
    """Record a decision. Raises NotApproved where a test says `worse` and nobody said that this is known."""
    if not by.strip() or not reason.strip():
        raise NotApproved("an approval needs a name (`--by`) and a reason (`--reason`): others will rely on it.")
    told = cast("dict[str, object]", read_report(model.path)["verdict"])
    is_bad = not {"worse", "mixed"}.isdisjoint((told["questions"], told["text"]))
    verdict = verdict_sentence(model.path)
    if decision == "approved" and is_bad and not despite_verdict:
        raise NotApproved(
            f"{model.path.name} lost something. {verdict} Look at its report.html; to approve it all the same say "
            "--despite-verdict, and in --reason why."
        )
    manifest, at = model.manifest, datetime.now(UTC).isoformat(timespec="seconds")
    made = Approval(model.path.name, manifest.key, manifest.digest, decision, by.strip(), reason.strip(), verdict, at)
    with (store.root / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(made), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return made


def decision_on(store: Store, model: Sealed) -> Approval | None:
    """The last decision on a published model; one on other bytes of the same name is none."""
    said = [one for one in _read(store.root / FILE) if one.key == model.manifest.key]
    return next((one for one in reversed(said) if one.digest == model.manifest.digest), None)


def newest_approved(store: Store, recipe: str) -> Sealed:
    """The newest published model of a recipe whose last decision is an approval. Raises NotApproved."""
    published = store.sealed("publish", recipe)
    for model in reversed(published):
        decision = decision_on(store, model)
        if decision is not None and decision.decision == "approved":
            return model
    found = f"{len(published)} published, none of them approved" if published else "none published"
    raise NotApproved(
        f"no model of recipe {recipe!r} is approved in {store.root}: {found}. Look at a report, then "
        f'`domainlm approve {recipe} --by "your name" --reason "why"`.'
    )


def _read(path: Path) -> list[Approval]:
    if not path.exists():
        return []
    return [Approval(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
