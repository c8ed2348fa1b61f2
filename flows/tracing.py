"""The ledger of a published model, from its sealed directories: the rows of `domainlm trace`. No Prefect, no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from domainlm.flows.show import newest
from domainlm.tasks.store import Sealed, Store
from domainlm.trainer.ledger import Ledger
from domainlm.trainer.mixture import load_mixture
from domainlm.trainer.skips import untrained_steps

Row = dict[str, object]


def open_ledger(store: Store, recipe: str) -> Ledger:
    """The ledger of the newest model that a recipe has published."""
    return ledger_of(newest(store, recipe).stages)


def ledger_of(stages: Mapping[str, Sealed]) -> Ledger:
    """The ledger of a build, from its stages."""
    mixture = load_mixture(stages["mix"].path / "mixture.json")
    directories = {corpus.name: stages[f"tokenize.{corpus.name}"].path for corpus in mixture.corpora}
    return Ledger(mixture, directories, untrained_steps(stages["train"].path))


def trace_rows(ledger: Ledger, *, step: int | None, document: str | None) -> Sequence[Row]:
    """Documents of a step, or steps of a document, or the account of the whole token budget."""
    if step is not None and document is not None:
        raise ValueError("give --step or --document, not both: they are the two directions of one ledger.")
    if step is not None:
        return [asdict(row) for row in ledger.documents_of_step(step)]
    if document is not None:
        return [asdict(row) for row in ledger.steps_of_document(document)]
    return [asdict(row) for row in ledger.accounting().corpora]
