"""The shipped corpus as files, as a team's own documents might lie around, with the truth about each of them.

    abstracts/0.jsonl.gz ...           four files; broken lines and leaked questions are in here
    leaflets/0.parquet ...             two files
    case_reports/case-000000.txt ...   one a document
    pubmed/0.xml.gz, 1.xml                PubMed XML; the second file takes back an article of the first
    jats/PMC99000001.nxml ...          JATS with licences, one of them closed, one silent
    general/0.jsonl                    other text, for replay
    benchmarks/medqa.jsonl, benchmarks/pubmedqa.jsonl
    truth.jsonl                        of every document and broken line: where it is, its kind, its expected fate

The same seed and scale give the same bytes.
"""

import gzip
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from domainlm.flows.pharmacopoeia.benchmarks import option_questions, trial_questions
from domainlm.flows.pharmacopoeia.clean import clean_specimens
from domainlm.flows.pharmacopoeia.leaks import context_leaks, option_leaks
from domainlm.flows.pharmacopoeia.noise import broken_lines, noise_of
from domainlm.flows.pharmacopoeia.specimen import BrokenLine, Specimen
from domainlm.flows.pharmacopoeia.world import World, build_world
from domainlm.flows.pharmacopoeia.xml_files import jats, pubmed
from domainlm.flows.pharmacopoeia.xml_sources import case_articles, trial_articles

NUM_ABSTRACT_FILES = 4
NUM_LEAFLET_FILES = 2
PARQUET_SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "text", "source", "license", "license_url")])

Truth = dict[str, object]


def write_pharmacopoeia(out: Path, *, seed: int = 0, scale: float = 1.0) -> dict[str, int]:
    """Write the corpus to `out`, which must be empty or not exist; returns the documents of each source.

    The directory appears only when it is whole.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty. Give a new directory, or remove this one first.")
    if scale <= 0:
        raise ValueError(f"scale is {scale}, it must be above 0; 1.0 is the shipped corpus.")
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    world = build_world(seed)
    truth = _write_sources(temporary, world, seed=seed, scale=scale)
    _write_lines(temporary / "truth.jsonl", [_json(line) for line in truth])
    for name, rows in (
        ("medqa", [question.row() for question in option_questions(world, seed=seed)]),
        ("pubmedqa", [question.row() for question in trial_questions(world, seed=seed)]),
    ):
        _write_lines(temporary / "benchmarks" / f"{name}.jsonl", [_json(row) for row in rows])
    if out.exists():
        out.rmdir()
    temporary.rename(out)
    return dict(Counter(str(line["source"]) for line in truth if line["id"] is not None))


def all_specimens(world: World, *, seed: int, scale: float) -> dict[str, list[Specimen]]:
    """Clean documents, noise and leaks of the sources that are not XML, by source, in the order of their ids."""
    clean = clean_specimens(world, seed=seed, scale=scale)
    noisy = {
        source: [*found, *noise_of(Random(f"noise:{source}:{seed}"), world, found, scale=scale)]
        for source, found in clean.items()
    }
    rng = Random(f"leaks:{seed}")
    for source in ("abstracts", "leaflets"):
        asked = option_questions(world, seed=seed)
        noisy[source] += option_leaks(rng, world, asked, source=source, first=len(noisy[source]), scale=scale)
    contexts = trial_questions(world, seed=seed)
    noisy["abstracts"] += context_leaks(rng, world, contexts, first=len(noisy["abstracts"]), scale=scale)
    return noisy


def _write_sources(out: Path, world: World, *, seed: int, scale: float) -> list[Truth]:
    specimens = all_specimens(world, seed=seed, scale=scale)
    for source, found in specimens.items():
        Random(f"order:{source}:{seed}").shuffle(found)
    lines = _with_broken(specimens["abstracts"], broken_lines())
    return [
        *_write_jsonl(out, "abstracts", lines, NUM_ABSTRACT_FILES),
        *_write_parquet(out, "leaflets", specimens["leaflets"]),
        *_write_texts(out, "case_reports", specimens["case_reports"]),
        *_write_pubmed(out, world, seed=seed),
        *_write_jats(out, world, seed=seed),
        *_write_jsonl(out, "general", specimens["general"], 1),
    ]


def _with_broken(specimens: Sequence[Specimen], broken: Sequence[BrokenLine]) -> list[Specimen | BrokenLine]:
    """Broken lines spread among the good ones."""
    lines: list[Specimen | BrokenLine] = list(specimens)
    for number, line in enumerate(broken, 1):
        lines.insert(number * len(specimens) // (len(broken) + 1), line)
    return lines


def _write_jsonl(out: Path, source: str, lines: Sequence[Specimen | BrokenLine], num_files: int) -> list[Truth]:
    """Dealt out over the files in turn; packed if there are several."""
    truth = []
    for number in range(num_files):
        name = f"{source}/{number}.jsonl{'.gz' if num_files > 1 else ''}"
        _write_lines(out / name, [_line(one) for one in lines[number::num_files]])
        truth += [_truth(one, name, place) for place, one in enumerate(lines[number::num_files], 1)]
    return truth


def _write_parquet(out: Path, source: str, specimens: Sequence[Specimen]) -> list[Truth]:
    truth = []
    for number in range(NUM_LEAFLET_FILES):
        name, rows = f"{source}/{number}.parquet", specimens[number::NUM_LEAFLET_FILES]
        table = pa.Table.from_pylist([_record(one) for one in rows], schema=PARQUET_SCHEMA)
        (out / source).mkdir(exist_ok=True)
        pq.write_table(table, out / name, compression="zstd", store_schema=False)
        truth += [_truth(one, name, place) for place, one in enumerate(rows)]
    return truth


def _write_texts(out: Path, source: str, specimens: Sequence[Specimen]) -> list[Truth]:
    for one in specimens:
        _write(out / source / f"{one.id}.txt", one.text.encode())
    return [_truth(one, f"{source}/{one.id}.txt", None) for one in specimens]


def _write_pubmed(out: Path, world: World, *, seed: int) -> list[Truth]:
    articles, specimens = trial_articles(world, seed=seed)
    half = len(articles) // 2
    deleted = [one.id for one in specimens[:half] if one.fate == "deleted"]
    _write(out / "pubmed/0.xml.gz", pubmed(articles[:half], deleted=()))
    _write(out / "pubmed/1.xml.gz", pubmed(articles[half:], deleted=deleted))
    return [_truth(one, f"pubmed/{int(place >= half)}.xml.gz", None) for place, one in enumerate(specimens)]


def _write_jats(out: Path, world: World, *, seed: int) -> list[Truth]:
    articles, specimens = case_articles(world, seed=seed)
    for article in articles:
        _write(out / "jats" / f"{article.pmc}.nxml", jats(article))
    return [_truth(one, f"jats/{one.id}.nxml", None) for one in specimens]


def _truth(one: Specimen | BrokenLine, file: str, line: int | None) -> Truth:
    """Where it is: `line` counts from 1 in JSONL, rows from 0 in Parquet, as dead letters and verdicts do."""
    if isinstance(one, BrokenLine):
        return {"doc_id": None, "source": one.source, "id": None, "file": file, "line": line, "kind": one.kind,
                "fate": "dead_letter", "group": "", "evidence": []}  # fmt: skip
    return {"doc_id": one.doc_id, "source": one.source, "id": one.id, "file": file, "line": line, "kind": one.kind,
            "fate": one.fate, "group": one.group, "evidence": list(one.evidence)}  # fmt: skip


def _line(one: Specimen | BrokenLine) -> bytes:
    return one.raw if isinstance(one, BrokenLine) else _json({**_record(one), "metadata": {}})


def _record(one: Specimen) -> dict[str, str | None]:
    names = {"id": one.id, "text": one.text, "source": one.source}
    return {**names, "license": one.license, "license_url": one.license_url}


def _json(row: Mapping[str, object]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    _write(path, b"".join(line + b"\n" for line in lines))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as file:
            file.write(content)
        content = packed.getvalue()
    path.write_bytes(content)
