"""Vocabulary extension: `python -m bench.vocabulary [--json] [--realdata DIR] [--new-tokens N] [--min-count N]`.

The words of nine tenths of the trials are added to two tokenizers: OLMo's (50,280 entries, learned from the web and
from articles), and one of our own, learned from general text alone (16,384 entries). Bytes per token before and after
on the tenth of the trials that was left out, and on text of other kinds. `fewer` is the share of tokens saved; `ours`
is OLMo's extended, on the trials left out, `theirs` as it was, and `same_result` says that nothing became longer.
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.texts import real_corpora
from domainlm.tasks.documents import Document, content_sha256, write_rows
from domainlm.tasks.extend_tokenizer import ExtendTokenizerConfig, extend_tokenizer
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Sealed, Store
from domainlm.tasks.train_tokenizer import TokenizerConfig, train_bpe, write_tokenizer

DOMAIN = "trials"
HELD_OUT = "trials left out"
GENERAL = ("psychology textbook", "history textbook", "philosophy textbook", "rust book", "wikitext-2")


def main() -> None:
    """Extend, and print a table for people or an object for programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--realdata", type=Path, default=Path("../shared/realdata"))
    parser.add_argument("--new-tokens", type=int, default=2048)
    parser.add_argument("--min-count", type=int, default=20)
    arguments = parser.parse_args()
    config = ExtendTokenizerConfig(new_tokens=arguments.new_tokens, sources=(DOMAIN,), min_count=arguments.min_count)
    corpora = {corpus.name: corpus.texts for corpus in real_corpora(arguments.realdata)}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = write_corpora(corpora, Path(folder))
        for name, directory in tokenizers(corpora, arguments.realdata, Path(folder)).items():
            files = sorted(path for path in directory.iterdir() if path.suffix == ".json")
            base = outside(directory, files, origin=name)
            sealed = extend_tokenizer.build(
                Store(Path(folder) / name), config, {**inputs, "tokenizer": base}, Runtime()
            )
            rows += measured(name, sealed, corpora_bytes(inputs))
    for row in rows:
        print("{tokenizer} + {new_tokens}, {text}: {before} -> {after} bytes a token, {fewer:.2%} fewer".format(**row))
    never_worse = all(float(str(row["after"])) >= float(str(row["before"])) for row in rows)
    first = next(row for row in rows if row["text"] == HELD_OUT)
    ours, theirs = float(str(first["after"])), float(str(first["before"]))
    summary = {
        "ours": ours,
        "theirs": theirs,
        "ratio": round(ours / theirs, 4),
        "unit": "bytes a token, trials left out",
    }
    summary |= {"same_result": never_worse, "of_each": rows}
    print(json.dumps(summary) if arguments.json else f"never worse: {never_worse}")


def write_corpora(corpora: dict[str, tuple[str, ...]], folder: Path) -> dict[str, Part]:
    """Trials in two parts by their content, all else held out, as the stage reads them."""
    trials = corpora[DOMAIN]
    places = [int(content_sha256(text)[:4], 16) % 100 for text in trials]
    left_out = [text for text, place in zip(trials, places, strict=True) if place >= 90]
    kept = [text for text, place in zip(trials, places, strict=True) if place < 90]
    others = {f"held_out.{name}": texts for name, texts in corpora.items() if name != DOMAIN}
    named = {f"corpus.{DOMAIN}": kept, f"held_out.{HELD_OUT}": left_out, **others}
    return {name: _written(name, texts, folder / "corpora" / str(n)) for n, (name, texts) in enumerate(named.items())}


def tokenizers(corpora: dict[str, tuple[str, ...]], realdata: Path, folder: Path) -> dict[str, Path]:
    """The directories of the tokenizers to extend."""
    texts = [text for name in GENERAL for text in corpora[name]]
    own = folder / "own"
    write_tokenizer(train_bpe(texts, TokenizerConfig(vocab_size=16_384)), own)
    return {"olmo": realdata / "tokenizers/olmo-dolma-v1_5", "general-16k": own}


def measured(tokenizer: str, sealed: Sealed, sizes: dict[str, int]) -> list[dict[str, object]]:
    """A row for each text."""
    counts = sealed.manifest.counts
    rows: list[dict[str, object]] = []
    for name, size in sizes.items():
        before, after = counts[f"tokens_before.{name}"], counts[f"tokens_after.{name}"]
        figures = {"before": round(size / before, 4), "after": round(size / after, 4), "fewer": 1 - after / before}
        rows.append({"tokenizer": tokenizer, "new_tokens": int(counts["new_tokens"]), "text": name, **figures})
    return rows


def corpora_bytes(inputs: dict[str, Part]) -> dict[str, int]:
    """Bytes of the text of each held-out corpus."""
    held_out = {name.removeprefix("held_out."): part for name, part in inputs.items() if name.startswith("held_out.")}
    return {name: int((part.root / "bytes").read_text()) for name, part in held_out.items()}


def _written(name: str, texts: Iterable[str], folder: Path) -> Part:
    rest = ("CC0-1.0", "", "", None)
    rows = [
        Document(f"{name}/{number}", text, name, *rest, content_sha256(text), None, "{}")
        for number, text in enumerate(texts)
    ]
    path = folder / "kept/00000.parquet"
    path.parent.mkdir(parents=True)
    write_rows(path, Document, rows)
    (folder / "bytes").write_text(str(sum(len(row.text.encode()) for row in rows)))
    return outside(folder, [path], origin=name)


if __name__ == "__main__":
    main()
