"""Readers: from a file of a known format to records and dead letters, streaming; `READERS` names them."""

from domainlm.tasks.readers import jats, jsonl, parquet, pubmed, text
from domainlm.tasks.readers.record import Deletion, Fields, Reader, Record

__all__ = ["ONE_DOCUMENT_A_FILE", "READERS", "Deletion", "Fields", "Reader", "Record"]

READERS: dict[str, Reader] = {
    "jsonl": jsonl.read,
    "parquet": parquet.read,
    "text": text.read,
    "pubmed_xml": pubmed.read,
    "jats": jats.read,
}
ONE_DOCUMENT_A_FILE = frozenset({"text", "jats"})
