"""Readers: from a file of a known format to records and dead letters, streaming; `FORMATS` names them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from domainlm.tasks.readers import arrow, delimited, edgar, fasta, html, jats, jsonl, parquet, pubmed, text, warc
from domainlm.tasks.readers.piece import Piece, Span, byte_spans
from domainlm.tasks.readers.record import Deletion, PassedOver, Reader, Record, Settings

__all__ = ["FORMATS", "Deletion", "Format", "PassedOver", "Piece", "Reader", "Record", "Settings"]

ROW = frozenset({"text_field", "id_field", "license_field", "license_url_field", "url_field", "metadata_field"})


def _whole(path: Path) -> list[Span | None]:
    return [None]


@dataclass(frozen=True)
class Format:
    """A reader; how it cuts a large file; the settings of a source that it heeds; an extra's package that it needs."""

    read: Reader
    spans: Callable[[Path], list[Span | None]] = _whole
    heeds: frozenset[str] = frozenset()
    one_document_a_file: bool = False
    versions: bool = False
    needs: tuple[str, str] | None = None


FORMATS: dict[str, Format] = {
    "jsonl": Format(jsonl.read, byte_spans, ROW),
    "parquet": Format(parquet.read, parquet.spans, ROW),
    "arrow": Format(arrow.read, arrow.spans, ROW),
    "csv": Format(delimited.read_csv, heeds=ROW | {"encoding"}),
    "tsv": Format(delimited.read_tsv, heeds=ROW | {"encoding"}),
    "text": Format(text.read, heeds=frozenset({"encoding"}), one_document_a_file=True),
    "pubmed_xml": Format(pubmed.read, versions=True),
    "jats": Format(jats.read, one_document_a_file=True),
    "html": Format(html.read, one_document_a_file=True, needs=("trafilatura", "html")),
    "warc": Format(warc.read, needs=("trafilatura", "html")),
    "fasta": Format(fasta.read, byte_spans, frozenset({"window_letters"})),
    "edgar": Format(edgar.read),
}
