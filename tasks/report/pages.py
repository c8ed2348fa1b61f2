"""The pages of a release: facts in, text out. The words are in the templates beside this file, the way
numbers are written is here. Text from documents and recipes is escaped: it may hold anything.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from domainlm.tasks.report.curves import held_out_picture, loss_picture, small_picture
from domainlm.tasks.report.documents import dropped_by_reason
from domainlm.tasks.report.facts import Report
from domainlm.tasks.report.funnel import draw_funnel
from domainlm.tasks.report.lineage import Link, draw

TEMPLATES = Path(__file__).parent

# How Hugging Face calls the licences that corpora usually have.
HUB_LICENSES = {
    "Apache-2.0": "apache-2.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-SA-3.0": "cc-by-sa-3.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC0-1.0": "cc0-1.0",
    "MIT": "mit",
}


def report_page(report: Report) -> str:
    """The report as one HTML page that needs nothing else."""
    training = report.training
    return _render(
        "report.html.jinja",
        report=report,
        css=Markup((TEMPLATES / "report.css").read_text()),
        loss=loss_picture(training),
        held_out=held_out_picture(training),
        rate=small_picture(training.curve, "lr", training.tokens_planned),
        speed=small_picture(training.curve, "tokens_per_s", training.tokens_planned),
        picture=Markup(draw(report.lineage)),
        funnel=Markup(draw_funnel(report.documents)),
        reasons=dropped_by_reason(report.documents),
        licences=by_licence(report),
        time_by_stage=seconds_by_stage(report.lineage),
    )


def model_card(report: Report, *, languages: Sequence[str], license: str | None) -> str:
    """The model card as Hugging Face reads it."""
    names = sorted({row.license for row in report.licences})
    return _render(
        "MODEL_CARD.md.jinja",
        report=report,
        languages=languages,
        license=license or derived_license(names),
        license_names=names,
        licences=by_licence(report),
    )


def data_sheet(report: Report) -> str:
    """The data sheet: where the text came from, and what became of it."""
    return _render(
        "DATA_SHEET.md.jinja",
        report=report,
        reasons=dropped_by_reason(report.documents),
        licences=by_licence(report),
        settings=report.settings,
    )


def derived_license(names: Sequence[str]) -> str:
    """The documents' licence if they have but one that Hugging Face knows, else `other`: the card then lists them."""
    return HUB_LICENSES.get(names[0], "other") if len(names) == 1 else "other"


def by_licence(report: Report) -> list[tuple[str, int]]:
    """Kept documents by licence, the most frequent first."""
    tally: Counter[str] = Counter()
    for row in report.licences:
        tally[row.license] += row.documents
    return sorted(tally.items(), key=lambda item: (-item[1], item[0]))


def seconds_by_stage(links: Iterable[Link]) -> list[tuple[str, float, int]]:
    """Stage, seconds over all its directories, number of them; in the order of the build."""
    tally: dict[str, tuple[float, int]] = {}
    for link in links:
        seconds, count = tally.get(link.name.partition(".")[0], (0.0, 0))
        tally[link.name.partition(".")[0]] = (seconds + link.seconds, count + 1)
    return [(stage, seconds, count) for stage, (seconds, count) in tally.items()]


def short(value: float) -> str:
    """A count in three digits: 1.49M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}"


def tick(value: float) -> str:
    """A round number beside a picture."""
    return short(value) if abs(value) >= 1000 else f"{value:g}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage."""
    return f"{100 * share:.{digits}f} %"


def signed(value: float, digits: int = 1) -> str:
    """A difference with its sign, a true minus; nothing is neither."""
    written = f"{value:+.{digits}f}"
    return written[1:] if not float(written) else written.replace("-", "\N{MINUS SIGN}")


def repetitions(value: float) -> str:
    """How often a corpus was gone through; a small part of once is still told."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def p_value(value: float) -> str:
    """A p-value; below a thousandth only that."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def cell(text: object) -> str:
    """Text for a cell of a Markdown table: one line, no markup of its own."""
    plain = " ".join(str(text).split())
    for mark, written in (
        ("\\", "\\\\"),
        ("|", "\\|"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("`", "'"),
        ("[", "\\["),
        ("]", "\\]"),
    ):
        plain = plain.replace(mark, written)
    return plain


def settings_rows(config: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """A config as rows of dotted name and value, by name."""
    rows = []
    for name, value in sorted(config.items()):
        if isinstance(value, Mapping):
            rows += settings_rows(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
            for number, one in enumerate(value):
                rows += settings_rows(one, f"{prefix}{name}.{number}.")
        elif isinstance(value, list | tuple):
            rows.append((prefix + name, ", ".join(str(one) for one in value)))
        else:
            rows.append((prefix + name, str(value)))
    return rows


def _render(template: str, **facts: object) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = (short, tick, duration, percent, signed, repetitions, p_value, cell, settings_rows)
    environment.filters.update({function.__name__: function for function in filters})
    return environment.get_template(template).render(facts)
