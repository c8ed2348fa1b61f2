"""Tokenize a corpus into shards: every document as [bos] + tokens of its text + [eos], in a deterministic shuffle.

In:  documents   Parquet files of documents
     tokenizer   files of a Hugging Face tokenizer directory
Out: shards/00000.arrow ...   token shards (`domainlm.trainer.shards`) of about `shard_tokens` tokens each
     tokens.json              what the shards are: `TokenizedCorpus`
Counts: tokens (also by licence, `tokens.<licence>`), text_bytes, bytes_per_token; which encoder made the ids
(`encoded_by.fastokens` or `encoded_by.tokenizers`, documents), how many slices of text were given to both
(`slices_compared`) and in how many they did not agree (`slices_differing`; `tokenizers` then encodes everything).

Pass 1 encodes pieces of text (8 to 256 MB) into unshuffled shards; pass 2 gathers the documents into the final shards
by memory map, in the order of a keyed hash of their ids. So the order is that of the documents and not of their files,
a rank holds one piece or one final shard in memory, and the driver 28 bytes a document.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from domainlm.tasks.document_shards import EmptyCorpus, run_shards
from domainlm.tasks.encoder import choose_encoder
from domainlm.tasks.engine import MARKS, clear_marks
from domainlm.tasks.manifest import Books
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.token_columns import shard_bounds, shuffle
from domainlm.tasks.token_passes import EncodePiece, GatherShard, cut_pieces
from domainlm.trainer import strict
from domainlm.trainer.mixture import ShardInfo
from domainlm.trainer.shards import MAX_SHARD_TOKENS, ShardHeader, file_sha256

log = logging.getLogger(__name__)

INDEX = "tokens.json"


class TokenizeConfig(BaseModel):
    """How documents become token shards."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Tokenize")

    shard_tokens: int = Field(
        100_000_000,
        ge=1_000,
        le=MAX_SHARD_TOKENS // 2,
        title="Shard size",
        description="About so many tokens in each token shard; a rank holds one shard in memory.",
    )
    shuffle_seed: int = Field(0, ge=0, title="Shuffle seed", description="Key of the shuffle of the documents.")


@dataclass(frozen=True)
class TokenizedCorpus:
    """What a directory of token shards holds; `tokens.json` is this."""

    header: ShardHeader
    shards: tuple[ShardInfo, ...]


@stage(version=1, disk_factor=4.0, resumes=True)
def tokenize(config: TokenizeConfig, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """Encode by piece, then gather by final shard."""
    scratch = out / MARKS
    directory = tokenizer_directory(inputs)
    header = read_header(directory)
    pieces = cut_pieces(inputs["documents"].paths())
    if not pieces:
        raise EmptyCorpus("no document to tokenize: this corpus is empty. Look at what the filters dropped.")
    encoder = choose_encoder(directory)
    first = EncodePiece(pieces, directory, encoder, header, config.shuffle_seed, scratch / encoder)
    encode, counts = encode_pieces(first, out, runtime)
    encoded = tuple(sorted(encode.out.glob("*.arrow")))
    places = shuffle(encoded)
    np.save(scratch / "plan.npy", places)
    bounds = shard_bounds(places[:, 2], config.shard_tokens)
    last = GatherShard(encoded, scratch / "plan.npy", bounds, header, out / "shards", scratch / "infos")
    gathered = run_shards(last, len(bounds) - 1, out, runtime, name="gather")
    infos = (strict.load(ShardInfo, path) for path in sorted((scratch / "infos").glob("*.json")))
    save_index(TokenizedCorpus(header, tuple(infos)), out / INDEX)
    clear_marks(out)
    return Books(
        entered={"documents": counts["documents"]},
        fates={"shards": gathered["shards"]},
        counts={
            "tokens": gathered["tokens"],
            "text_bytes": counts["text_bytes"],
            "bytes_per_token": round(counts["text_bytes"] / gathered["tokens"], 4),
            f"encoded_by.{encode.encoder}": counts["documents"],
            **{name: counts[name] for name in ("slices_compared", "slices_differing")},
            **{name: count for name, count in gathered.items() if name.startswith("tokens.")},
        },
    )


def encode_pieces(encode: EncodePiece, out: Path, runtime: Runtime) -> tuple[EncodePiece, Mapping[str, int]]:
    """Pass 1; once more with `tokenizers` where `fastokens` failed or gave other ids. Returns how, and its counts."""
    counts = run_shards(encode, len(encode.pieces), out, runtime, name=f"encode-{encode.encoder}")
    differ = counts.get("slices_differing", 0)
    if not differ and not counts.get("failed"):
        return encode, counts
    log.warning("fastokens gave other ids than tokenizers, or none; tokenizers encodes this corpus instead.")
    again = dataclasses.replace(encode, encoder="tokenizers", out=encode.out.with_name("tokenizers"))
    compared = {"slices_compared": counts.get("slices_compared", 0), "slices_differing": differ}
    return again, run_shards(again, len(again.pieces), out, runtime, name="encode-tokenizers") | compared


def tokenizer_directory(inputs: Inputs) -> Path:
    """The directory that the files of the input `tokenizer` lie in."""
    for path in inputs["tokenizer"].paths():
        if path.name == "tokenizer.json":
            return path.parent
    raise FileNotFoundError(
        f"{inputs['tokenizer'].origin} has no tokenizer.json but {', '.join(inputs['tokenizer'].files)}; "
        "give a Hugging Face directory with a fast tokenizer."
    )


def read_header(directory: Path) -> ShardHeader:
    """What the tokens of a tokenizer mean. Without a bos token its eos token also begins a document, as in GPT-2."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # brings torch: a plan should not wait for it

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{directory} has a {type(tokenizer).__name__}; a fast tokenizer (tokenizer.json) is needed.")
    if json.loads((directory / "tokenizer.json").read_bytes())["model"].get("dropout"):
        raise ValueError(f"{directory} has BPE dropout: its ids differ from run to run. Set `dropout` to null.")
    eos_id = tokenizer.eos_token_id
    if eos_id is None:
        raise ValueError(f"{directory} names no eos_token, and every document ends with one; add it to its config.")
    return ShardHeader(
        vocab_size=max(tokenizer.get_vocab().values()) + 1,
        tokenizer_digest=file_sha256(directory / "tokenizer.json"),
        bos_id=eos_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
        eos_id=eos_id,
    )


def save_index(corpus: TokenizedCorpus, path: Path) -> None:
    """Write `tokens.json`."""
    path.write_text(json.dumps(dataclasses.asdict(corpus), indent=1, sort_keys=True) + "\n")


def load_index(path: Path) -> TokenizedCorpus:
    """Read `tokens.json`."""
    return strict.load(TokenizedCorpus, path)
