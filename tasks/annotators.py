"""Annotators: what the rules need to know of documents beyond their language and the measures of `quality`.

Each takes columns of a batch of documents and returns one, with the same value for a document whatever its batch.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from domainlm.tasks.words import WORDS


def retracted(texts: pa.Array, native_metadata: pa.Array) -> pa.Array:
    """PubMed's "Retracted Publication", a reader's `retracted: true`, or a title that says so."""
    in_title = pc.match_substring_regex(texts, "^RETRACTED(:| ARTICLE)", ignore_case=True)
    hints = pc.match_substring(native_metadata, "retracted", ignore_case=True).to_pylist()
    says_so = [hint and _says_retracted(_metadata(native_metadata[row])) for row, hint in enumerate(hints)]
    return pc.or_(in_title, pa.array(says_so, pa.bool_()))


def under_concern(native_metadata: pa.Array) -> pa.Array:
    """A reader's `under_concern: true`: the article itself links to an expression of concern about it."""
    hints = pc.match_substring(native_metadata, "under_concern").to_pylist()
    says_so = [hint and bool(_metadata(native_metadata[row]).get("under_concern")) for row, hint in enumerate(hints)]
    return pa.array(says_so, pa.bool_())


def boilerplate_shares(texts: pa.Array, phrases: Sequence[str]) -> pa.Array:
    """Share of characters in sentences that hold one of the phrases, in any case."""
    phrase = "|".join(map(re.escape, phrases))
    suspected = pc.match_substring_regex(texts, phrase, ignore_case=True).to_pylist()
    expression = re.compile(phrase, re.IGNORECASE)
    return pa.array(
        [_share_with(expression, texts[row].as_py()) if suspect else 0.0 for row, suspect in enumerate(suspected)],
        pa.float64(),
    )


def _metadata(written: pa.StringScalar) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(written.as_py())
    return metadata


def _says_retracted(metadata: dict[str, Any]) -> bool:
    return bool(metadata.get("retracted")) or "Retracted Publication" in (metadata.get("publication_types") or [])


def _share_with(expression: re.Pattern[str], text: str) -> float:
    marked = sum(len(sentence) for sentence in WORDS.sent_tokenize(text) if expression.search(sentence))
    return marked / len(text)
