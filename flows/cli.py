"""The command line: `domainlm build RECIPE`, `plan`, `explain`, `show`, `approve`, `trace`, `why`, `thresholds` ...

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

from domainlm.flows.printing import (
    out,
    print_decision,
    print_plan,
    print_plan_summary,
    print_reasons,
    print_rows,
    print_rows_as_columns,
    print_thresholds,
    print_verdict,
)
from domainlm.flows.recipe_files import RecipeError, apply_setting, read_tree, shipped_recipes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from domainlm.flows.planner import PlanLine
    from domainlm.flows.recipe import Recipe
    from domainlm.tasks.runtime import Runtime
    from domainlm.tasks.store import Store

app = typer.Typer(
    help="From a team's own documents to an evaluated, documented, released language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)

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
    until: Annotated[str | None, typer.Option(help="Stop after the last stage of this name, such as filter.")] = None,
) -> None:
    """Build the recipe's model, reusing what the store has. Interrupt it at any time: the same command goes on."""
    for name in ("PREFECT_LOGGING_LEVEL", "PREFECT_SERVER_LOGGING_LEVEL"):
        os.environ.setdefault(name, "CRITICAL")  # the terminal has a view of its own
    loaded, here = recipe_of(recipe, settings), runtime_of(store, data, runtime, place)
    lines = _plan(loaded, here, until)
    if all(line.reused for line in lines):
        out.print(f"Nothing to build: all {len(lines)} stages of [bold]{loaded.name}[/] are in the store.")
        published = None if until else here.store / loaded.domain / lines[-1].directory
    else:
        from domainlm.flows.build_domain_model import build_domain_model
        from domainlm.flows.terminal import TerminalView
        from domainlm.flows.view import shown_by
        from domainlm.tasks.store import Sealed

        out.print(f"[bold]{loaded.name}[/]")
        print_plan_summary(lines)
        with TerminalView(out) as view, shown_by(view):
            ended = build_domain_model(loaded, here, until)  # type: ignore[arg-type]
        published = ended.path if isinstance(ended, Sealed) else None
    if published is None:
        out.print(f"Stopped after {lines[-1].name}, as asked; without `--until` it goes on.")
    else:
        print_verdict(published)


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
    print_plan(lines)


@app.command()
def explain(recipe: RecipeName, settings: Settings = None, store: StorePath = STORE, data: DataPath = DATA) -> None:
    """Say what changed since the nearest earlier build, stage by stage: every setting and every input."""
    lines = [
        line for line in _plan(recipe_of(recipe, settings), runtime_of(store, data, None, None)) if not line.reused
    ]
    if not lines:
        out.print("Nothing changed: every stage is in the store.")
    print_reasons(lines)


@app.command()
def show(recipe: RecipeName, store: StorePath = STORE, as_json: Json = False) -> None:
    """Show the newest model that the recipe has published: its path, keys, counts, scores, timings, who approved it."""
    from domainlm.flows.approval import decision_on
    from domainlm.flows.show import newest, report

    where, name = _store_of(recipe, store)
    published = newest(where, name)
    decision = decision_on(where, published.sealed)
    if as_json:
        shown = {**report(published), "approval": vars(decision) if decision else None}
        sys.stdout.write(json.dumps(shown, indent=1) + "\n")
    else:
        print_verdict(published.sealed.path)
        print_decision(decision)


@app.command()
def approve(
    recipe: RecipeName,
    by: Annotated[str, typer.Option(help="Your name: you answer for it.")],
    reason: Annotated[str, typer.Option(help="Why; others will read it.")],
    model: Annotated[str | None, typer.Option(help="Name of its directory, if it is not the newest.")] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Say no instead, or take an approval back.")] = False,
    despite_verdict: Annotated[bool, typer.Option("--despite-verdict", help="Although it tests as worse.")] = False,
    store: StorePath = STORE,
) -> None:
    """Approve the newest published model: by a person, for a reason. `approved:RECIPE` then names it as weights."""
    from domainlm.flows.approval import decide
    from domainlm.flows.show import published_model

    where, name = _store_of(recipe, store)
    chosen = published_model(where, name, model)
    print_verdict(chosen.path)
    print_decision(
        decide(
            where, chosen, "rejected" if reject else "approved", by=by, reason=reason, despite_verdict=despite_verdict
        )
    )


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
    if step is None and document is None:
        print_rows_as_columns(rows)
    else:
        print_rows(rows)


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
        print_thresholds(rows)


@app.command()
def recipes() -> None:
    """List the recipes that come with domainlm."""
    shown = Table(box=None, show_header=False)
    for name in shipped_recipes():
        shown.add_row(f"[bold]{name}[/]", str(read_tree(name, beside=Path()).get("description", "")))
    out.print(shown)


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
    """The runtime that a command's options describe."""
    from domainlm.flows.recipe_loading import validate_runtime

    tree = yaml.safe_load(profile.read_text()) if profile else {}
    for setting in place or ():
        apply_setting(tree, setting)
    return validate_runtime({"store": store, "data": data, **tree})


def _store_of(name: str, store: Path) -> "tuple[Store, str]":
    """The store of a recipe's domain, and the recipe's own name, without checking the recipe."""
    from domainlm.tasks.store import Store

    tree = read_tree(name, beside=Path())
    if "name" not in tree:
        raise RecipeError(f"{name} is not a valid recipe: name: is missing.")
    return Store(store / str(tree.get("domain", tree["name"]))), str(tree["name"])


def _plan(recipe: "Recipe", runtime: "Runtime", until: str | None = None) -> "Sequence[PlanLine]":
    from domainlm.flows.chain import build_model
    from domainlm.flows.materials import gather
    from domainlm.flows.planner import Planner, up_to
    from domainlm.tasks.store import Store

    planner = Planner(Store(runtime.store / recipe.domain))
    build_model(recipe, gather(recipe, runtime), planner)
    return up_to(until, planner.lines)
