"""What the commands print in a terminal: a plan, a verdict, rows of figures. 80 columns are enough for all of it."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from domainlm.flows.show import headline_scores, verdict_sentence

if TYPE_CHECKING:
    from domainlm.flows.approval import Approval
    from domainlm.flows.planner import PlanLine
    from domainlm.flows.tracing import Row

SHORT = {"answer bits per byte": "answer bits/byte", "bits per byte": "bits/byte"}

out = Console(highlight=False)


def print_plan(lines: "Sequence[PlanLine]") -> None:
    """One line a stage: where it is, or why it is built."""
    widest = max(len(line.name) for line in lines)
    for line in lines:
        mark, rest = ("[dim]reuse[/]", line.directory) if line.reused else ("[green]build[/]", "; ".join(line.because))
        out.print(f"{mark}  {line.name:<{widest}}  [dim]{escape(rest)}[/]", no_wrap=True, overflow="ellipsis")
    out.print()
    print_plan_summary(lines)
    _print_unless(lines)


def print_reasons(lines: "Sequence[PlanLine]") -> None:
    """Every reason why a stage is built, a line each."""
    for line in lines:
        out.print(f"[bold]{line.name}[/] will be built:")
        for reason in line.because:
            out.print(f"  {reason}", markup=False, soft_wrap=True)
    _print_unless(lines)


def print_plan_summary(lines: "Sequence[PlanLine]") -> None:
    """How many stages are reused and built, and the change that it began with."""
    reused = sum(line.reused for line in lines)
    out.print(f"{len(lines)} stages: {reused} reused, {len(lines) - reused} to build")
    changed = [line for line in lines if line.because and line.because != ("never built",)]
    if changed and not changed[0].because[0].startswith("after "):
        out.print(f"because of {changed[0].name}: {'; '.join(changed[0].because)}", markup=False, soft_wrap=True)


def _print_unless(lines: "Sequence[PlanLine]") -> None:
    from domainlm.flows.planner import UNLESS

    if any(reason.startswith("after ") for line in lines for reason in line.because):
        out.print(f"[dim]{UNLESS}[/]", soft_wrap=True)


def print_verdict(published: Path) -> None:
    """The scores of a published model, what they say, and where it is."""
    table = Table("benchmark", "metric", "model", "95 % interval", "base", "chance", box=None, header_style="dim")
    for score in headline_scores(published):
        interval = f"{score.low:.3f} to {score.high:.3f}" if score.low is not None else ""
        chance = f"{score.chance:.3f}" if score.chance is not None else ""
        metric = SHORT.get(score.metric, score.metric)
        table.add_row(score.benchmark, metric, f"{score.model:.3f}", interval, f"{score.base:.3f}", chance)
    out.print()
    out.print(table)
    out.print(f"\n[bold]{verdict_sentence(published)}[/]\n")
    out.print(f"report  {published / 'report.html'}\nmodel   {published / 'model'}", soft_wrap=True)


def print_decision(decision: "Approval | None") -> None:
    """Who approved or rejected a model, when and why."""
    if decision is None:
        out.print("status  approved by nobody yet")
    else:
        told = f"status  {decision.decision} by {decision.by} on {decision.at[:10]}: {decision.reason}"
        out.print(told, markup=False, soft_wrap=True)


def print_rows(rows: "Sequence[Row]") -> None:
    """One line a row."""
    table = Table(box=None, header_style="dim")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(_figure, row.values()))
    _print_table(table)


def _print_table(table: Table) -> None:
    """In a terminal, as wide as it is; into a file, as wide as the table, for nobody can widen that."""
    (out if out.is_terminal else Console(highlight=False, width=1_000)).print(table)


def print_thresholds(rows: "Sequence[Row]") -> None:
    """A line a source, and below it one for each of its thresholds that drops something."""
    for source, said in groupby(rows, key=lambda row: row["source"]):
        whole, *others = said
        told = f"{source}: {whole['documents']:,} documents, {whole['drops']:,} dropped ({whole['share']:.1%})"
        out.print(told, markup=False, soft_wrap=True)
        shown = [
            {"rule": row["rule"], "threshold": row["threshold"], "drops": row["drops"], "alone": row["drops_alone"]}
            for row in others
            if row["drops"]
        ]
        if shown:
            print_rows(shown)
        out.print()


def print_rows_as_columns(rows: "Sequence[Row]") -> None:
    """One column a row: few rows of many figures."""
    first, *names = rows[0]
    table = Table("", *(str(row[first]) for row in rows), box=None, header_style="dim")
    for name in names:
        table.add_row(name.replace("_", " "), *(_figure(row[name]) for row in rows))
    out.print(table)


def _figure(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
