"""Publish: the model with its papers, all of them computed from the sealed directories of its build.

In:  every stage of the build by its name: acquire.<source>, filter.<source>, deduplicate, decontaminate.<source>,
     train_tokenizer or extend_tokenizer (where there is one), tokenize.<source>, mix, train, evaluate.model,
     evaluate.base
Out: model/           a Hugging Face directory, ready to upload: the trained one, and the model card as its README.md
     MODEL_CARD.md    what the model is, what it was trained on, how it scores
     DATA_SHEET.md    sources, licences, what was dropped and why, mixture
Records: report.html and report.json, which tell times and hardware speed too, and so differ from run to run.
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from domainlm.tasks.manifest import Books
from domainlm.tasks.report.facts import Report, gather
from domainlm.tasks.report.pages import data_sheet, model_card, report_page
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.store import Sealed

RECORDS = ("report.html", "report.json")


class PublishConfig(BaseModel):
    """What the papers of a model say beyond what is computed."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Publish")

    name: str = Field("", title="Name", description="Name of the model; the recipe's if empty.")
    description: str = Field("", title="Description", description="One sentence; the recipe's if empty.")
    languages: tuple[str, ...] = Field(("en",), title="Languages", description="ISO 639-1 codes of the text.")
    license: str | None = Field(
        None,
        title="Licence",
        description="Licence of the weights, as Hugging Face writes it (apache-2.0). Null derives it: that of the "
        "documents if they have only one, else `other`.",
    )


@stage(version=1, disk_factor=0.0)
def publish(config: PublishConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Gather the facts, copy the model, write the papers."""
    stages = {name: Sealed.load(part.root) for name, part in inputs.items()}
    report = gather(stages, name=config.name, description=config.description)
    copy_model(stages["train"].path / "model", out / "model")
    card = model_card(report, languages=config.languages, license=config.license)
    _write(out / "model" / "README.md", card)
    _write(out / "MODEL_CARD.md", card)
    _write(out / "DATA_SHEET.md", data_sheet(report))
    _write(out / "report.html", report_page(report))
    _write(out / "report.json", report_json(report))
    kept = sum(funnel.kept for funnel in report.documents)
    return Books(counts={"documents": kept, "tokens": report.training.tokens}, records=RECORDS)


def report_json(report: Report) -> str:
    """The report as JSON."""
    return json.dumps(dataclasses.asdict(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def copy_model(source: Path, target: Path) -> None:
    """The files of a model directory under another name: the same bytes on disk where the file system can."""
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(path, copy)


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)  # a README.md that came with the model is a link to a sealed file
    path.write_text(text, encoding="utf-8")
