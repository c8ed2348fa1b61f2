"""A Parquet file that is written row by row beside another one, with few rows in memory."""

from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 256


RowT = TypeVar("RowT")


class Spool(Generic[RowT]):
    """Takes rows of one schema. The file appears only when the `with` block ends well."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.count = 0
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._schema = schema
        self._batch: list[RowT] = []

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd", store_schema=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            self._temporary.replace(self._path)

    def add(self, row: RowT) -> None:
        """Take one more row."""
        self.count += 1
        self._batch.append(row)
        if len(self._batch) == BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            columns = {name: [getattr(row, name) for row in self._batch] for name in self._schema.names}
            self._writer.write_table(pa.table(columns, self._schema))
            self._batch = []
