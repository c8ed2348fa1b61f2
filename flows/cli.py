"""The command line: `domainlm build RECIPE`, `plan`, `explain`, `show`, `trace`, `why`, `thresholds`, `recipes`.

`domainlm deploy` belongs to the layer above and is added by `domainlm.deployments.command`, where the program starts.

Every command takes a recipe: a YAML file, or the name of a shipped one. What a command does not need it does not
import, so that `trace` answers in well under a second.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from rich.console import Console
from rich.table import Table

from domainlm.flows.recipe_files import apply_setting, read_tree, shipped_recipes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domainlm.flows.planner import PlanLine
    from domainlm.flows.recipe import Recipe
    from domainlm.flows.tracing import Row
    from domainlm.tasks.runtime import Runtime
    from domainlm.tasks.store import Store

app = typer.Typer(
    help="From a team's own documents to an evaluated, documented, released language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
out = Console(highlight=False)

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a setting: `mix.token_budget=2000000`.")
]
StorePath = Annotated[Path, typer.Option("--store", help="Directory of sealed stage outputs.")]
DataPath = Annotated[Path, typer.Option("--data", help="Directory that the recipe's relative paths start from.")]
RuntimeFile = Annotated[Path | None, typer.Option("--runtime", help="YAML of the runtime: workers, processes, device.")]
Place = Annotated[
    list[str] | None, typer.Option("--on", metavar="NAME=VALUE", help="Change the runtime: `workers=2`, `device=cuda`.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

STORE, DATA = Path("store"), Path()


@app.command()
def build(
    recipe: RecipeName,
    settings: Settings = None,
    store: StorePath = STORE,
    data: DataPath = DATA,
    runtime: RuntimeFile = None,
    place: Place = None,
) -> None:
    """Build the recipe's model, reusing what the store has. Interrupt it at any time: the same command goes on."""
    for name in ("PREFECT_LOGGING_LEVEL", "PREFECT_SERVER_LOGGING_LEVEL"):
        os.environ.setdefault(name, "CRITICAL")  # the terminal has a view of its own
    loaded, here = recipe_of(recipe, settings), runtime_of(store, data, runtime, place)
    lines = _plan(loaded, here)
    if all(line.reused for line in lines):
        out.print(f"Nothing to build: all {len(lines)} stages of [bold]{loaded.name}[/] are in the store.")
        published = here.store / loaded.domain / lines[-1].directory
    else:
        from domainlm.flows.build_domain_model import build_domain_model
        from domainlm.flows.terminal import TerminalView
        from domainlm.flows.view import shown_by
        from domainlm.tasks.store import Sealed

        _print_plan_summary(loaded.name, lines)
        with TerminalView(out) as view, shown_by(view):
            ended = build_domain_model(loaded, here)
        assert isinstance(ended, Sealed)  # only a run on a server can be cancelled there
        published = ended.path
    _print_verdict(published)


@app.command()
def plan(
    recipe: RecipeName,
    settings: Settings = None,
    store: StorePath = STORE,
    data: DataPath = DATA,
    as_json: Json = False,
) -> None:
    """Say which stages would be reused and which built, without building anything."""
    lines = _plan(recipe_of(recipe, settings), runtime_of(store, data, None, None))
    if as_json:
        out.print_json(data=[vars(line) for line in lines])
        return
    table = Table("stage", "", "directory", "why", box=None, header_style="dim")
    for line in lines:
        mark = "[dim]reuse[/]" if line.reused else "[green]build[/]"
        table.add_row(line.name, mark, line.directory, line.because[0] if line.because else "")
    out.print(table)


@app.command()
def explain(recipe: RecipeName, settings: Settings = None, store: StorePath = STORE, data: DataPath = DATA) -> None:
    """Say what changed since the nearest earlier build, stage by stage: every setting and every input."""
    lines = [
        line for line in _plan(recipe_of(recipe, settings), runtime_of(store, data, None, None)) if not line.reused
    ]
    if not lines:
        out.print("Nothing changed: every stage is in the store.")
    for line in lines:
        out.print(f"[bold]{line.name}[/] will be built:")
        for reason in line.because:
            out.print(f"  {reason}", markup=False)


@app.command()
def show(recipe: RecipeName, store: StorePath = STORE, as_json: Json = False) -> None:
    """Show the newest model that the recipe has published: its path, keys, counts, scores and timings."""
    from domainlm.flows.show import newest, report

    published = newest(*_store_of(recipe, store))
    if as_json:
        sys.stdout.write(json.dumps(report(published), indent=1) + "\n")
    else:
        _print_verdict(published.sealed.path)


@app.command()
def trace(
    recipe: RecipeName,
    step: Annotated[int | None, typer.Option(help="List the documents of this step.")] = None,
    document: Annotated[str | None, typer.Option(help="List the steps that saw this document.")] = None,
    store: StorePath = STORE,
    as_json: Json = False,
) -> None:
    """Follow the ledger: from a step to its documents (`--step`), from a document to its steps (`--document`).

    With neither, account for every token of the budget.
    """
    from domainlm.flows.tracing import open_ledger, trace_rows

    rows = trace_rows(open_ledger(*_store_of(recipe, store)), step=step, document=document)
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    if not rows:
        out.print("No step reached it.")
        return
    out.print(_table(rows) if step is not None or document is not None else _turned_table(rows))


@app.command()
def why(
    recipe: RecipeName,
    document: Annotated[str, typer.Argument(metavar="DOC_ID", help="`source/native id`.")],
    store: StorePath = STORE,
    as_json: Json = False,
) -> None:
    """Tell the life of a document: where it came from, every verdict, its duplicates, its fate, its tokens."""
    from domainlm.flows.life import life_of, told
    from domainlm.flows.show import newest

    events = life_of(document, newest(*_store_of(recipe, store)).stages)
    if as_json:
        sys.stdout.write(json.dumps([vars(event) for event in events], indent=1, default=str) + "\n")
        return
    for line in told(document, events):
        out.print(line, markup=False, soft_wrap=True)


@app.command()
def thresholds(recipe: RecipeName, settings: Settings = None, store: StorePath = STORE, as_json: Json = False) -> None:
    """Say how many documents each threshold of the filter would drop, from numbers alone: try others with `--set`.

    Thresholds that drop nothing are left out of the table; `--json` has them all.
    """
    from domainlm.flows.thresholds import threshold_rows
    from domainlm.tasks.store import Store

    loaded = recipe_of(recipe, settings)
    rows = threshold_rows(loaded, Store(store / loaded.domain))
    if as_json:
        out.print_json(data=rows)
    else:
        out.print(_table([row for row in rows if row["drops"] or row["rule"] == "all"]))


@app.command()
def recipes() -> None:
    """List the recipes that come with domainlm."""
    for name in shipped_recipes():
        tree = read_tree(name, beside=Path())
        out.print(f"[bold]{name:<20}[/] {tree.get('description', '')}")


def main() -> None:
    """Run the command line; an error is a sentence for people, and exit code 1."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that what was started is stopped too
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("DOMAINLM_DEBUG"):
            raise
        Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {type(error).__name__}:", end=" ")
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


def recipe_of(name: str, settings: list[str] | None) -> "Recipe":
    """The recipe that a command names, with its settings."""
    from domainlm.flows.recipe_loading import load_recipe

    return load_recipe(name, settings or ())


def runtime_of(store: Path, data: Path, profile: Path | None, place: list[str] | None) -> "Runtime":
    """The runtime that a command\'s options describe."""
    from domainlm.tasks.runtime import Runtime

    tree = yaml.safe_load(profile.read_text()) if profile else {}
    for setting in place or ():
        apply_setting(tree, setting)
    return Runtime.model_validate({"store": store, "data": data, **tree})


def _store_of(name: str, store: Path) -> "tuple[Store, str]":
    """The store of a recipe's domain, and the recipe's own name, without checking the recipe."""
    from domainlm.tasks.store import Store

    tree = read_tree(name, beside=Path())
    return Store(store / str(tree.get("domain", tree["name"]))), str(tree["name"])


def _plan(recipe: "Recipe", runtime: "Runtime") -> "list[PlanLine]":
    from domainlm.flows.chain import build_model
    from domainlm.flows.materials import gather
    from domainlm.flows.planner import Planner
    from domainlm.tasks.store import Store

    planner = Planner(Store(runtime.store / recipe.domain))
    build_model(recipe, gather(recipe, runtime), planner)
    return planner.lines


def _table(rows: "Sequence[Row]") -> Table:
    """One line a row."""
    table = Table(box=None, header_style="dim")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(_figure, row.values()))
    return table


def _turned_table(rows: "Sequence[Row]") -> Table:
    """One column a row: few rows of many figures."""
    first, *names = rows[0]
    table = Table("", *(str(row[first]) for row in rows), box=None, header_style="dim")
    for name in names:
        table.add_row(name.replace("_", " "), *(_figure(row[name]) for row in rows))
    return table


def _figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print_plan_summary(name: str, lines: "list[PlanLine]") -> None:
    reused = sum(line.reused for line in lines)
    out.print(f"[bold]{name}[/]: {len(lines)} stages, {reused} reused, {len(lines) - reused} to build")
    changed = [line for line in lines if line.because and line.because != ("never built",)]
    if changed and not changed[0].because[0].startswith("after "):
        out.print(f"because of {changed[0].name}: {'; '.join(changed[0].because)}", markup=False)


def _print_verdict(published: Path) -> None:
    from domainlm.flows.show import headline_scores, verdict_sentence

    table = Table("benchmark", "metric", "model", "95 % interval", "base", "chance", box=None, header_style="dim")
    for score in headline_scores(published):
        interval = f"{score.low:.3f} to {score.high:.3f}" if score.low is not None else ""
        chance = f"{score.chance:.3f}" if score.chance is not None else ""
        table.add_row(score.benchmark, score.metric, f"{score.model:.3f}", interval, f"{score.base:.3f}", chance)
    out.print()
    out.print(table)
    out.print(f"\n[bold]{verdict_sentence(published)}[/]")
    out.print(f"report  {published / 'report.html'}\nmodel   {published / 'model'}", soft_wrap=True)
