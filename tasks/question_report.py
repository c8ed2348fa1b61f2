"""The report on the questions of the benchmarks: which of them the documents of one source give away, and where.

questions.parquet, one row for each field of each question:

    benchmark, question_id, name   the question, and the part of it (`index_questions` has the names)
    clues, common_clues            its clues, and how many of them are too common in the source to count
    documents                      how many documents give it away
    most_clues                     the most clues that one of them has
    doc_ids                        the first `LISTED_DOCUMENTS` of them; each has its verdict
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from domainlm.tasks.question_index import QuestionIndex, Rows

LISTED_DOCUMENTS = 100
QUESTION_SCHEMA = pa.schema(
    [
        pa.field("benchmark", pa.string(), nullable=False),
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("clues", pa.int64(), nullable=False),
        pa.field("common_clues", pa.int64(), nullable=False),
        pa.field("documents", pa.int64(), nullable=False),
        pa.field("most_clues", pa.int64(), nullable=False),
        pa.field("doc_ids", pa.list_(pa.string()), nullable=False),
    ]
)


class QuestionReport:
    """Gathers what the documents give away, shard by shard."""

    def __init__(self, index: QuestionIndex, common: NDArray[np.bool_]) -> None:
        self.index = index
        self.common = common
        self.documents = np.zeros(len(index.fields), dtype=np.int64)
        self.most_clues = np.zeros(len(index.fields), dtype=np.int64)
        self.doc_ids: dict[int, list[str]] = {}

    def given_away(self, clues: Rows) -> Rows:
        """(row, field, clues found) of one shard, from its (row, clue) pairs; what is common does not count."""
        counted = clues[~self.common[clues[:, 1]]]
        places, owned = self.index.owners.of_each(counted[:, 1])
        pairs = np.stack([counted[places, 0], self.index.owners.fields[owned]], axis=1)
        each, found = np.unique(pairs, axis=0, return_counts=True)
        return np.column_stack([each, found]).astype(np.int64)

    def note(self, field: int, doc_id: str, found: int) -> None:
        """Note that a document gives a field away."""
        self.documents[field] += 1
        self.most_clues[field] = max(int(self.most_clues[field]), found)
        listed = self.doc_ids.setdefault(field, [])
        if len(listed) < LISTED_DOCUMENTS:
            listed.append(doc_id)

    def counts(self, benchmark: str) -> dict[str, int]:
        """Questions of one benchmark that have a clue to look for, and those that some document gives away."""
        of_it = [(field, n) for field, n in zip(self.index.fields, self.documents, strict=True)]
        of_it = [(field, n) for field, n in of_it if field.benchmark == benchmark]
        return {
            f"questions_indexed.{benchmark}": len({field.question_id for field, _ in of_it if field.clues}),
            f"questions_found.{benchmark}": len({field.question_id for field, n in of_it if n}),
        }

    def write(self, path: Path) -> None:
        """Write the report; the file appears only when whole."""
        _, dismissed = self.index.owners.of_each(np.flatnonzero(self.common))
        common = np.bincount(self.index.owners.fields[dismissed], minlength=len(self.index.fields))
        rows = [
            {
                **asdict(field),
                "common_clues": int(common[number]),
                "documents": int(self.documents[number]),
                "most_clues": int(self.most_clues[number]),
                "doc_ids": self.doc_ids.get(number, []),
            }
            for number, field in enumerate(self.index.fields)
        ]
        temporary = path.with_name(path.name + ".tmp")
        table = pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA)
        pq.write_table(table, temporary, compression="zstd", store_schema=False)
        temporary.replace(path)
