"""Tokenize held-out text: what training is watched by, the very documents that evaluation will measure.

In:  held_out.<source>   Parquet files of documents that no training sees
     tokenizer           files of a Hugging Face tokenizer directory
Out: held_out.json, shards/<source>.arrow   as `domainlm.trainer.held_out_text` reads them
Fates: `shards`, and `not_sampled` for documents beyond `max_bytes` of a source.

It is small (megabytes), so one process does it, with `tokenizers` itself.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from domainlm.eval.parquet import read_batches
from domainlm.tasks.encoder import load_encoder
from domainlm.tasks.evaluate import HELD_OUT
from domainlm.tasks.manifest import Books
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.token_columns import with_ends
from domainlm.tasks.tokenize import read_header, tokenizer_directory
from domainlm.trainer.shards import ShardHeader, write_columns

if TYPE_CHECKING:
    from domainlm.trainer.held_out_text import HeldOutSource

COLUMNS = ["doc_id", "source", "license", "text"]


class TokenizeHeldOutConfig(BaseModel):
    """How much of the held-out text training is watched by."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Tokenize held-out text")

    max_bytes: int = Field(ge=1, title="Bytes", description="Text of each source: as much as evaluation measures.")


@stage(version=1, disk_factor=0.0)
def tokenize_held_out(config: TokenizeHeldOutConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """One token shard a source, documents in the order of evaluation's draw."""
    from domainlm.eval.bits_per_byte import draw  # these bring torch: a plan should not wait for it
    from domainlm.trainer.held_out_text import INDEX, HeldOutText

    directory = tokenizer_directory(inputs)
    header = read_header(directory)
    (out / "shards").mkdir(exist_ok=True)
    sources, entered = [], {}
    for name in sorted(name for name in inputs if name.startswith(HELD_OUT)):
        folder, source = inputs[name].paths()[0].parent, name.removeprefix(HELD_OUT)
        documents = read_in_order(folder, draw(source, folder, config.max_bytes))
        entered[name] = sum(pq.read_metadata(path).num_rows for path in inputs[name].paths())
        sources.append(write_source(source, documents, directory, header, out))
    text = HeldOutText(header.tokenizer_digest, header.vocab_size, tuple(sources))
    (out / INDEX).write_text(json.dumps(dataclasses.asdict(text), sort_keys=True) + "\n")
    drawn = sum(source.shard.documents for source in sources)
    return Books(
        entered=entered,
        fates={"shards": drawn, "not_sampled": sum(entered.values()) - drawn},
        counts={f"tokens.{source.name}": source.shard.tokens for source in sources},
    )


def read_in_order(folder: Path, chosen: Sequence[str]) -> pa.RecordBatch:
    """These documents of the Parquet files in a folder, in this order."""
    wanted = pa.array(chosen, pa.string())
    batches: list[pa.RecordBatch] = []
    for path in sorted(folder.glob("*.parquet")):
        batches += (batch.filter(pc.is_in(batch["doc_id"], wanted)) for batch in read_batches(path, COLUMNS))
    table = pa.Table.from_batches(batches).combine_chunks()
    return table.take(pc.index_in(wanted, table["doc_id"].combine_chunks())).to_batches()[0]


def write_source(
    name: str, documents: pa.RecordBatch, tokenizer: Path, header: ShardHeader, out: Path
) -> "HeldOutSource":
    """The documents of a source as a token shard, and the bytes of each."""
    from domainlm.trainer.held_out_text import HeldOutSource

    encoded = load_encoder("tokenizers", tokenizer)(documents["text"].to_pylist())
    info = write_columns(out / f"shards/{name}.arrow", with_ends(documents, encoded, header), header)
    sizes = pc.binary_length(documents["text"]).to_numpy().astype(np.int64)
    return HeldOutSource(name, info, tuple(sizes.tolist()))
