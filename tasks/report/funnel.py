"""The data funnel: what entered each stage from each source, what left there and why, what went on.

As numbers (`steps`), as a picture for the report (`draw_funnel`), as Markdown for a Prefect run (`funnel_markdown`).
Each step balances: entered = went on + every reason; what is held out for evaluation is one of the reasons.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from domainlm.tasks.report.documents import CURATION, Funnel

WIDTH, BAND, TOP, LINE = 1000, 170, 46, 15
SHOWN_REASONS = 6
TONES = ("--fill", "--held", "--base", "--filter", "--duplicate", "--leak", "--dead")
BAR = 16


@dataclass(frozen=True)
class Step:
    """One stage of one source."""

    source: str
    stage: str
    entered: int
    left: tuple[tuple[str, int], ...]
    """Reason and documents, the most frequent first."""
    went_on: int


def steps(funnel: Funnel) -> tuple[Step, ...]:
    """The stages of one source in order. Raises ValueError where a step does not balance with the next."""
    found, entered = [], funnel.entered
    for stage in CURATION:
        left = sorted(((fate.reason, fate.documents) for fate in funnel.fates if fate.stage == stage), key=_most_first)
        went_on = entered - sum(count for _, count in left)
        found.append(Step(funnel.source, stage, entered, tuple(left), went_on))
        entered = went_on
    if entered != funnel.kept:
        raise ValueError(f"source {funnel.source!r}: {entered:,} documents go through, and {funnel.kept:,} are kept.")
    return tuple(found)


def draw_funnel(funnels: Sequence[Funnel]) -> str:
    """An SVG: a band a source from stage to stage, as high as its documents, and below each stage why some left."""
    entered = sum(funnel.entered for funnel in funnels)
    if not entered:
        return ""
    by_source = [steps(funnel) for funnel in funnels]
    columns = [[one[stage].entered for one in by_source] for stage in range(len(CURATION))]
    columns.append([funnel.kept for funnel in funnels])
    reasons = [_reasons(by_source, stage) for stage in range(len(CURATION))]
    height = TOP + BAND + 24 + LINE * (max(map(len, reasons)) + 1)
    parts = [*_bands(columns, entered, [funnel.source for funnel in funnels]), *_words(columns, reasons)]
    label = f"{entered:,} documents entered, {sum(columns[-1]):,} were kept"
    return (
        f'<svg class="picture" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}" font-size="11" '
        f'fill="currentColor">{"".join(parts)}</svg>'
    )


def funnel_markdown(funnels: Sequence[Funnel]) -> str:
    """A table of every source, stage and reason, and a bar for what is left after each: plain text shows anywhere."""
    lines = ["| source | stage | entered | went on | | left, and why |", "|---|---|--:|--:|---|---|"]
    for funnel in funnels:
        for step in steps(funnel):
            why = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in step.left) or "none"
            bar = "█" * round(BAR * step.went_on / max(funnel.entered, 1))
            figures = f"{step.entered:,} | {step.went_on:,} | `{bar:░<{BAR}}`"
            lines.append(f"| {step.source} | {step.stage} | {figures} | {why} |")
    entered, kept = (sum(getattr(funnel, name) for funnel in funnels) for name in ("entered", "kept"))
    left = entered - kept
    return "\n".join([*lines, "", f"{entered:,} entered = {kept:,} kept + {left:,} that left, each with its reason."])


def _reasons(by_source: Sequence[Sequence[Step]], stage: int) -> list[tuple[str, int]]:
    """Why documents of any source left in a stage; the rare reasons together."""
    tally: dict[str, int] = {}
    for one in by_source:
        for reason, count in one[stage].left:
            tally[reason] = tally.get(reason, 0) + count
    ordered = sorted(tally.items(), key=_most_first)
    rest = sum(count for _, count in ordered[SHOWN_REASONS:])
    return [*ordered[:SHOWN_REASONS], *([(f"for {len(ordered) - SHOWN_REASONS} more reasons", rest)] if rest else [])]


def _bands(columns: Sequence[Sequence[int]], entered: int, sources: Sequence[str]) -> Iterator[str]:
    """Each source as a polygon through all columns; its height is its share of what entered."""
    tops = [[TOP + BAND * sum(column[:n]) / entered for n in range(len(column) + 1)] for column in columns]
    for n, source in enumerate(sources):
        upper = [f"{_x(column)},{tops[column][n]:.1f}" for column in range(len(columns))]
        lower = [f"{_x(column)},{tops[column][n + 1]:.1f}" for column in reversed(range(len(columns)))]
        counts = " → ".join(f"{column[n]:,}" for column in columns)
        yield (
            f'<polygon points="{" ".join([*upper, *lower])}" style="fill:var({TONES[n % len(TONES)]})" '
            f'stroke="var(--card, #fff)" stroke-width=".7"><title>{escape(source)}: {counts}</title></polygon>'
        )
        if tops[0][n + 1] - tops[0][n] > LINE:
            yield f'<text x="{_x(0) + 6}" y="{tops[0][n] + 12:.1f}" fill="var(--card, #fff)">{escape(source)}</text>'


def _words(columns: Sequence[Sequence[int]], reasons: Sequence[Sequence[tuple[str, int]]]) -> Iterator[str]:
    """Above each column what reached it, below each stage why documents left there."""
    for number, (name, column) in enumerate(zip((*CURATION, "corpus"), columns, strict=True)):
        anchor = "end" if number == len(columns) - 1 else "start"
        yield f'<text x="{_x(number)}" y="14" text-anchor="{anchor}" font-weight="600">{name}</text>'
        yield f'<text x="{_x(number)}" y="30" text-anchor="{anchor}">{sum(column):,}</text>'
        yield f'<path d="M{_x(number)} {TOP - 8}V{TOP + BAND + 6}" stroke="currentColor" opacity=".25"/>'
    for number, lines in enumerate(reasons):
        left = sum(count for _, count in lines)
        y = TOP + BAND + 24
        total = f"{left:,} left" if left else "none left"
        yield f'<text x="{_x(number)}" y="{y}" font-weight="600">{total}</text>'
        for line, (reason, count) in enumerate(lines, start=1):
            words = escape(reason.replace("_", " "))
            yield f'<text x="{_x(number)}" y="{y + LINE * line}" opacity=".75">{count:,} {words}</text>'


def _x(column: int) -> float:
    return round(10 + column * (WIDTH - 20) / len(CURATION), 1)


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
