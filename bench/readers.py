"""Speed of the readers on one core, on the same files: `python -m bench.readers [--realdata DIR] [--json]`.

JSONL: our reader against datatrove's JsonlReader, real trials. PubMed XML: our reader, which cuts each article out so
that a broken one costs itself, against lxml's iterparse that keeps PMID, title and abstract only and stops at the first
error; real articles, repeated under new PMIDs. Theirs and ours must see the same ids and, of JSONL, the same texts.
"""

import argparse
import gzip
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from datatrove.pipeline.readers import JsonlReader
from datatrove.utils.logging import logger as datatrove_log
from lxml import etree

from domainlm.tasks.readers import FORMATS, Piece, Record, Settings

REPETITIONS = 5
XML_BYTES = 30_000_000
JSONL_BYTES = 60_000_000
ARTICLE = re.compile(rb"<PubmedArticle>.*?</PubmedArticle>", re.DOTALL)
PMID = re.compile(rb'(<PMID Version="\d+">)\d+')
Seen = list[object]


def main() -> None:
    """Measure, and print a table for people or an object for programs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--realdata", type=Path, default=Path("../shared/realdata"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not (arguments.realdata / "raw_pubmed_xml").is_dir():
        sys.exit(f"no real text in {arguments.realdata}: name its directory with --realdata DIR.")
    datatrove_log.disable("datatrove")
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments.realdata, Path(folder))
    if arguments.json:
        print(json.dumps(result))
        return
    for name, one in result["formats"].items():
        print(f"{name:<12} ours {one['ours']:7.1f}  theirs {one['theirs']:7.1f} MB/s  ratio {one['ratio']:.2f}")


def measure(realdata: Path, folder: Path) -> dict[str, object]:
    """Both formats; the head of the result is JSONL's."""
    jsonl, xml = write_jsonl(realdata, folder / "jsonl"), write_pubmed(realdata, folder / "a.xml")
    formats = {
        "jsonl": compare(jsonl, lambda: ours("jsonl", jsonl, text=True), lambda: datatrove_jsonl(jsonl)),
        "pubmed_xml": compare(xml, lambda: ours("pubmed_xml", xml, text=False), lambda: iterparse(xml)),
    }
    same = all(one["same_result"] for one in formats.values())
    return {**formats["jsonl"], "same_result": same, "unit": "MB/s", "formats": formats}


def compare(path: Path, ours: Callable[[], Seen], theirs: Callable[[], Seen]) -> dict[str, object]:
    """Megabytes a second of both, the best of some runs that take turns."""
    best: dict[str, float] = {}
    seen: dict[str, Seen] = {}
    for _ in range(REPETITIONS):
        for name, run in (("ours", ours), ("theirs", theirs)):
            started_s = time.process_time()
            seen[name] = run()
            elapsed_s = time.process_time() - started_s
            best[name] = min(best.get(name, elapsed_s), elapsed_s)
    speed = {name: round(path.stat().st_size / 1e6 / elapsed_s, 1) for name, elapsed_s in best.items()}
    ratio = round(best["theirs"] / best["ours"], 2)
    return {**speed, "ratio": ratio, "same_result": seen["ours"] == seen["theirs"]}


def ours(kind: str, path: Path, *, text: bool) -> Seen:
    """Ids, and texts if asked, that our reader finds."""
    records = FORMATS[kind].read(Piece(path, path.name), Settings())
    return [(one.native_id, one.text) if text else one.native_id for one in records if isinstance(one, Record)]


def datatrove_jsonl(path: Path) -> Seen:
    """Ids and texts that datatrove's reader finds."""
    reader = JsonlReader(str(path.parent), compression=None, doc_progress=False, file_progress=False)
    return [(document.id, document.text) for document in reader.run()]


def iterparse(path: Path) -> Seen:
    """PMIDs as a short script reads them, with titles and abstracts taken out too."""

    def articles() -> Iterator[str]:
        for _, element in etree.iterparse(str(path), tag="PubmedArticle"):
            title = element.find("MedlineCitation/Article/ArticleTitle")
            "".join(title.itertext())
            for part in element.iterfind("MedlineCitation/Article/Abstract/AbstractText"):
                "".join(part.itertext())
            yield element.findtext("MedlineCitation/PMID")
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]

    return list(articles())


def write_jsonl(realdata: Path, folder: Path) -> Path:
    """Real trials in one plain file, repeated under new ids."""
    folder.mkdir()
    files = sorted(realdata.glob("biomed/pmc_rct-*"))
    rows = [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    path, number = folder / "a.jsonl", 0
    with path.open("wb") as file:
        while file.tell() < JSONL_BYTES:
            row = {**rows[number % len(rows)], "id": str(number)}
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            number += 1
    return path


def write_pubmed(realdata: Path, path: Path) -> Path:
    """Real articles in one file, repeated under new PMIDs."""
    files = sorted(realdata.glob("raw_pubmed_xml/*.xml"))
    articles = [article for file in files for article in ARTICLE.findall(file.read_bytes())]
    with path.open("wb") as file:
        file.write(b'<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n')
        number = 0
        while file.tell() < XML_BYTES:
            pmid = b"\\g<1>%d" % (10_000_000 + number)
            file.write(PMID.sub(pmid, articles[number % len(articles)], count=1) + b"\n")
            number += 1
        file.write(b"</PubmedArticleSet>\n")
    return path


if __name__ == "__main__":
    main()
