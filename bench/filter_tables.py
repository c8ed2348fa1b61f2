"""The tables of docs/filters.md, measured on real text: `python -m bench.filter_tables [--write docs/filters.md]`.

What each profile drops of each source, by the first rule that objects (the licence gate is left out: that is for a
recipe to decide); how well the domain classifier tells held-out documents; where datatrove's blocks decide otherwise
with their stock tokenizer (spaCy) than with ours.
"""

import argparse
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from datatrove.data import Document as TroveDocument
from datatrove.utils.logging import logger as datatrove_log

from bench.filters import RULES, batches, decide, stock_blocks
from bench.texts import Corpus, real_corpora, sample, sequence_corpora
from domainlm.tasks import domain
from domainlm.tasks.annotate import annotations
from domainlm.tasks.filter import KEPT, FilterConfig, opinions, select
from domainlm.tasks.learn_domain import HELD_OUT, LearnDomainConfig, measure_of
from domainlm.tasks.profiles import PROFILES, Profile

DOMAINS: dict[str, tuple[Profile, ...]] = {
    "trials": ("biomedical", "web"),
    "plos": ("biomedical", "web"),
    "medquad": ("biomedical", "web"),
    "anatomy textbook": ("biomedical", "web"),
    "psychology textbook": ("biomedical", "web"),
    "history textbook": ("biomedical", "web"),
    "philosophy textbook": ("biomedical", "web"),
    "rust book": ("biomedical", "web"),
    "wikitext-2": ("biomedical", "web"),
    "DC Code": ("legal", "web"),
    "EDGAR contracts": ("legal", "web"),
    "10-K filings": ("finance", "web"),
    "chloroplast proteins": ("genomics", "web"),
}
SEEDS: dict[str, tuple[str, ...]] = {
    "biomedical": ("trials", "plos", "medquad", "anatomy textbook"),
    "legal": ("DC Code", "EDGAR contracts"),
    "finance": ("10-K filings",),
}
SAMPLE_BYTES = 600_000


def main() -> None:
    """Print the tables, or write them between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--realdata", type=Path, default=Path("../shared/realdata"))
    parser.add_argument("--write", type=Path, help="a page with <!-- drops --> and <!-- differences -->")
    arguments = parser.parse_args()
    datatrove_log.disable("datatrove")
    warnings.filterwarnings("ignore", "Mean of empty slice|invalid value", RuntimeWarning)
    corpora = real_corpora(arguments.realdata)
    tables = {
        "drops": drop_table([*corpora, *sequence_corpora(arguments.realdata)]),
        "domains": domain_table(corpora),
        "differences": difference_table(corpora),
    }
    if not arguments.write:
        print("\n\n".join(tables.values()))
        return
    page = arguments.write.read_text()
    for name, table in tables.items():
        marks = f"<!-- {name} -->", f"<!-- /{name} -->"
        if any(mark not in page for mark in marks):
            sys.exit(f"{arguments.write} has no {marks[0]} ... {marks[1]}: the table has no place there.")
        page = re.sub(f"(?s){marks[0]}.*?{marks[1]}", lambda _, t=table, m=marks: f"{m[0]}\n{t}\n{m[1]}", page)
    arguments.write.write_text(page)


def drop_table(corpora: Iterable[Corpus]) -> str:
    """A line for each source and profile: documents, dropped, and by which rule."""
    lines = ["| text | profile | documents | dropped | first objection |", "|---|---|---:|---:|---|"]
    for corpus in corpora:
        for profile in DOMAINS[corpus.name]:
            fates = fates_by(profile, corpus.texts)
            dropped = sum(fates.values()) - fates.pop(KEPT, 0)
            reasons = ", ".join(f"{rule} {count:,}" for rule, count in fates.most_common())
            share = f"{dropped:,} ({dropped / len(corpus.texts):.1%})"
            lines.append(f"| {corpus.name} | {profile} | {len(corpus.texts):,} | {share} | {reasons} |")
    return "\n".join(lines)


def fates_by(profile: Profile, texts: Sequence[str]) -> Counter[str]:
    """How many of the texts meet which fate."""
    config = FilterConfig(rules=tuple(settings for settings in PROFILES[profile] if settings.rule != "license"))
    asked = config.annotate_config()
    table = pa.concat_tables(annotations(batch, asked) for batch in batches(texts))
    return Counter(select(list(opinions(config, table)), len(texts)).tolist())


def domain_table(corpora: Iterable[Corpus]) -> str:
    """A line for each domain: how well a classifier learned from its sources tells them from all the others."""
    lines = [
        "| domain | seeds | held out | of the domain | F1 | precision | recall |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    texts = [(corpus.name, text) for corpus in corpora for text in dict.fromkeys(corpus.texts)]
    held_out = np.arange(len(texts)) % HELD_OUT == 0
    features, ends = domain.featurize([text for (_, text), out in zip(texts, held_out, strict=True) if not out])
    tests = pa.array([text for (_, text), out in zip(texts, held_out, strict=True) if out], pa.string())
    for name, seeds in SEEDS.items():
        labels = np.array([source in seeds for source, _ in texts])
        weights = domain.learn(features, ends, labels[~held_out], LearnDomainConfig.model_fields["epochs"].default)
        figures = measure_of(domain.scores(tests, weights).to_numpy() >= 0.5, labels[held_out])
        held, own = int(held_out.sum()), int(labels[held_out].sum())
        scores = " | ".join(f"{figures[figure]:.3f}" for figure in ("f1", "precision", "recall"))
        lines.append(f"| {name} | {', '.join(seeds)} | {held:,} | {own:,} | {scores} |")
    return "\n".join(lines)


def difference_table(corpora: Iterable[Corpus]) -> str:
    """A line for each source: for how many documents each block decides otherwise with spaCy's words."""
    lines = [f"| text | compared | {' | '.join(RULES)} |", f"|---|---:|{'---:|' * len(RULES)}"]
    totals: Counter[str] = Counter()
    for corpus in corpora:
        texts = sample(corpus.texts, SAMPLE_BYTES)
        found = Counter({"compared": len(texts)})
        for text, ours in zip(texts, decide(texts), strict=True):
            for rule, keep, block in zip(RULES, ours, stock_blocks(), strict=True):
                stock = block.filter(TroveDocument(text=text, id="")) is True
                found[f"{rule} {'kept' if stock else 'dropped'}"] += stock != keep
        lines.append(_difference_line(corpus.name, found))
        totals.update(found)
    return "\n".join([*lines, _difference_line("all", totals)])


def _difference_line(name: str, found: Counter[str]) -> str:
    cells = [f"+{found[f'{rule} kept']} -{found[f'{rule} dropped']}" for rule in RULES]
    return f"| {name} | {found['compared']:,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
