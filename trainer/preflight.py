"""Checks before the first step: what cannot work is said now, with what to do, and costs no GPU time."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from transformers import PreTrainedConfig

from .checkpoint import has_checkpoints
from .extension import Extension, load_extension
from .files import write_json
from .job import TrainJob
from .mixture import Mixture
from .ranks import Ranks
from .shards import ShardHeader, file_sha256, verify
from .stream import CorpusStream


def check_files(job: TrainJob) -> None:
    """The directories that the job names exist."""
    wanted: dict[str, Path] = {"tokenizer": job.tokenizer, **{f"corpora.{k}": v for k, v in job.corpora.items()}}
    if job.init_from is not None:
        wanted["init_from"] = job.init_from
    for name, path in wanted.items():
        if not path.is_dir():
            raise FileNotFoundError(f"`{name}` is {path}, but there is no such directory; correct train.json.")
    for directory in (job.tokenizer, *([job.init_from] if job.init_from else [])):
        needed = "tokenizer.json" if directory == job.tokenizer else "config.json"
        if not (directory / needed).is_file():
            raise FileNotFoundError(f"{directory} has no {needed}; a Hugging Face directory is needed.")


def check_batch(mixture: Mixture, *, num_ranks: int) -> None:
    """The step divides among the ranks."""
    if mixture.batch_sequences % num_ranks:
        divisors = [n for n in range(1, num_ranks + 1) if mixture.batch_sequences % n == 0]
        raise ValueError(
            f"a step of {mixture.batch_sequences} sequences ({mixture.batch_tokens:,} tokens) does not divide among "
            f"{num_ranks} ranks; run on {divisors[-1]} ranks, or take batch_tokens a multiple of "
            f"{num_ranks * mixture.sequence_tokens:,}."
        )


def check_tokens(mixture: Mixture, streams: tuple[CorpusStream, ...]) -> ShardHeader:
    """Every shard was made with the mixture's tokenizer; returns the header that they share."""
    headers = {shard.path: shard.header for stream in streams for shard in stream.shards}
    first = next(iter(headers.values()))
    for path, header in headers.items():
        if (header.tokenizer_digest, header.vocab_size) != (mixture.tokenizer_digest, mixture.vocab_size):
            raise ValueError(
                f"shard {path} was made with tokenizer {header.tokenizer_digest[:16]} ({header.vocab_size:,} entries), "
                f"but the mixture with {mixture.tokenizer_digest[:16]} ({mixture.vocab_size:,}); tokenize it again."
            )
        if header != first:
            raise ValueError(
                f"shard {path} has bos {header.bos_id} and eos {header.eos_id}, others {first}; tokenize again."
            )
    return first


def check_tokenizer(mixture: Mixture, directory: Path) -> None:
    """The tokenizer in a directory is the one of the tokens, as far as its size tells."""
    num_entries = _num_entries(directory)
    if num_entries != mixture.vocab_size:
        raise ValueError(
            f"tokenizer {directory} has {num_entries:,} entries, but the mixture's tokens are of a vocabulary of "
            f"{mixture.vocab_size:,}; give the tokenizer that the corpora were tokenized with."
        )


def check_model(mixture: Mixture, config: PreTrainedConfig, job: TrainJob) -> None:
    """The model has the positions and the vocabulary that the mixture needs."""
    init_from = job.init_from
    where = str(init_from or "config.model")
    if init_from is not None and (init_from / "tokenizer.json").is_file():
        extension = load_extension(job.tokenizer)
        if extension is None:
            check_tokenizer(mixture, init_from)
        else:
            check_extension(mixture, extension, init_from)
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and mixture.sequence_tokens > positions:
        raise ValueError(
            f"sequences of {mixture.sequence_tokens:,} tokens are longer than the {positions:,} positions of {where}; "
            f"lower sequence_tokens to {positions:,} or take a model with more positions."
        )
    if config.vocab_size < mixture.vocab_size:
        raise ValueError(
            f"{where} has a vocabulary of {config.vocab_size:,}, but the tokens are of one of {mixture.vocab_size:,}; "
            f"tokenize the corpora with the tokenizer of that model."
        )


def check_extension(mixture: Mixture, extension: Extension, init_from: Path) -> None:
    """The tokens are of a vocabulary that extends the very one of the weights."""
    if file_sha256(init_from / "tokenizer.json") != extension.base_sha256:
        raise ValueError(
            f"the tokenizer extends another one than {init_from / 'tokenizer.json'}: rows of its new tokens cannot be "
            f"made from these weights; extend the tokenizer that they came with, and tokenize again."
        )
    if mixture.vocab_size != extension.num_entries:
        raise ValueError(
            f"the extended tokenizer has {extension.num_entries:,} entries, but the mixture's tokens are of a "
            f"vocabulary of {mixture.vocab_size:,}; tokenize the corpora with the extended one."
        )


def check_room(output: Path, checkpoint_bytes: int) -> None:
    """The disk has room for two checkpoints, of which one stays until the other is whole, and the exported weights.

    A run that goes on has its checkpoints already, and makes room by itself.
    """
    if has_checkpoints(output):
        return
    needed = 2 * checkpoint_bytes + checkpoint_bytes // 3
    place = next(directory for directory in (output, *output.parents) if directory.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ValueError(
            f"the run will write about {needed / 1e9:,.1f} GB (two checkpoints of {checkpoint_bytes / 1e9:,.1f} GB and "
            f"the exported weights), and {place} has {free / 1e9:,.1f} GB free. Free some room, or give another place."
        )


def verify_shards(mixture: Mixture, directories: Mapping[str, Path], ranks: Ranks, *, record: Path) -> None:
    """The bytes of the shards are those that were mixed; each rank checks every num_ranks-th.

    A shard is hashed once for each output directory, and again only when the file system says that it has changed: a
    restart costs one `stat` a shard. `record` remembers which files were found right.
    """
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    shards = {f"{corpus.name}/{info.file}": (corpus.name, info) for corpus in mixture.corpora for info in corpus.shards}
    found: dict[str, str] = {}
    for name in list(shards)[ranks.rank :: ranks.num_ranks]:
        corpus, info = shards[name]
        look = _look(directories[corpus] / info.file, info.sha256)
        if known.get(name) != look:
            verify(directories[corpus], info)
        found[name] = look
    everywhere = {name: look for part in ranks.gather(found) for name, look in part.items()}
    if ranks.is_first and everywhere != known:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, everywhere)


def _look(path: Path, sha256: str) -> str:
    """What changes when a file is written: its place on the disk, its size and the time of the last change, which no
    program can set; and the digest it should have."""
    stat = path.stat()
    return f"{sha256} {stat.st_dev}:{stat.st_ino} {stat.st_size} {stat.st_ctime_ns}"


def _num_entries(directory: Path) -> int:
    """Entries of a tokenizer's vocabulary, added tokens included: one more than its largest id."""
    tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
    return 1 + int(max([*ids, *(token["id"] for token in tokenizer.get("added_tokens", []))]))
