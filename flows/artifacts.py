"""What a Prefect run shows of a build: the plan, the data funnel, the scores, the lineage, the way to the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

from domainlm.flows.chain import Output
from domainlm.flows.planner import UNLESS, PlanLine
from domainlm.flows.recipe import Recipe
from domainlm.flows.show import headline_scores
from domainlm.tasks.report.documents import funnels
from domainlm.tasks.report.funnel import funnel_markdown
from domainlm.tasks.store import Sealed


def show_plan(recipe: Recipe, lines: Sequence[PlanLine]) -> None:
    """Which stages will be reused and which built, and why."""
    create_markdown_artifact(plan_markdown(lines), key=key(recipe, "plan"), description="What will be built, and why")


def show_funnel(recipe: Recipe, made: Mapping[str, Output]) -> None:
    """What became of the documents, as far as the build has come."""
    sealed = {name: output for name, output in made.items() if isinstance(output, Sealed)}
    create_table_artifact(
        funnel_rows(sealed), key=key(recipe, "funnel"), description="Documents, stage by stage: none unaccounted for"
    )
    if all(f"decontaminate.{source.name}" in sealed for source in recipe.sources):
        create_markdown_artifact(
            funnel_markdown(funnels(sealed)), key=key(recipe, "funnel-picture"), description="The data funnel by source"
        )


def show_results(recipe: Recipe, made: Mapping[str, Output], published: Sealed) -> None:
    """The scores, the lineage and the report of a finished build."""
    sealed = {name: output for name, output in made.items() if isinstance(output, Sealed)}
    scores = [asdict(score) for score in headline_scores(published.path)]
    create_table_artifact(scores, key=key(recipe, "scores"), description="Scores beside the base's")
    create_markdown_artifact(
        f"{lineage_table(sealed)}\n\n```mermaid\n{lineage_mermaid(sealed)}\n```",
        key=key(recipe, "lineage"),
        description="What came from what",
    )
    report = published.path.resolve() / "report.html"
    create_link_artifact(report.as_uri(), str(report), key=key(recipe, "report"), description="The report")


def key(recipe: Recipe, kind: str) -> str:
    """The key of one of a recipe's artifacts; Prefect takes letters, digits and dashes."""
    return f"{recipe.name.replace('_', '-')}-{kind}"


def plan_markdown(lines: Sequence[PlanLine]) -> str:
    """The plan as a Markdown table."""
    reused = sum(line.reused for line in lines)
    rows = [
        f"| {line.name} | {'reuse' if line.reused else 'build'} | {'; '.join(line.because) or line.directory} |"
        for line in lines
    ]
    table = ["| stage | | where it is, or why it is built |", "|---|---|---|", *rows]
    return "\n".join([f"{len(lines)} stages: {reused} reused, {len(lines) - reused} to build.", "", *table, "", UNLESS])


def funnel_rows(sealed: Mapping[str, Sealed]) -> list[dict[str, object]]:
    """One row for each stage that works on documents and each fate in it."""
    return [
        {"stage": name, "fate": fate, "documents": count}
        for name, one in sealed.items()
        for fate, count in one.manifest.fates.items()
    ]


def lineage_table(sealed: Mapping[str, Sealed]) -> str:
    """What went into each sealed directory, as a Markdown table: Prefect's V1 pages draw no Mermaid."""
    rows = [
        f"| {one.path.name} | {', '.join(sorted({record.origin for record in one.manifest.inputs.values()}))} |"
        for one in sealed.values()
        if one.manifest.stage != "publish"  # it is made from everything
    ]
    return "\n".join(["| sealed directory | made from |", "|---|---|", *rows])


def lineage_mermaid(sealed: Mapping[str, Sealed]) -> str:
    """The sealed directories and what went into which, as a Mermaid flowchart."""
    numbers = {one.path.name: f"n{index}" for index, one in enumerate(sealed.values())}
    lines = ["flowchart LR", *(f'  {numbers[one.path.name]}["{one.path.name}"]' for one in sealed.values())]
    for one in sealed.values():
        if one.manifest.stage == "publish":  # it is made from everything
            continue
        origins = {record.origin.split("/")[0] for record in one.manifest.inputs.values()}
        known = sorted(origin for origin in origins if origin in numbers)
        lines += [f"  {numbers[origin]} --> {numbers[one.path.name]}" for origin in known]
        lines += [
            f'  {numbers[one.path.name]}_in{index}(["{origin}"]) --> {numbers[one.path.name]}'
            for index, origin in enumerate(sorted(origins))
            if origin not in numbers and not origin.startswith("benchmark ")
        ]
    published = [numbers[one.path.name] for one in sealed.values() if one.manifest.stage == "publish"]
    scores = [numbers[one.path.name] for one in sealed.values() if one.manifest.stage in ("evaluate", "train")]
    return "\n".join([*lines, *(f"  {score} --> {model}" for score in scores for model in published)])
