"""Held-out text: every token predicted once, the same number on any number of ranks, no bit of the training changed."""

import dataclasses
import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from domainlm.trainer.assemble import assemble
from domainlm.trainer.goodput import goodput
from domainlm.trainer.held_out import HeldOut, open_samples
from domainlm.trainer.held_out_text import (
    HeldOutSource,
    HeldOutText,
    Sample,
    Window,
    load_held_out,
    pack,
    sample,
    windows,
)
from domainlm.trainer.job import HeldOutJob
from domainlm.trainer.loop import Run
from domainlm.trainer.ranks import Ranks
from domainlm.trainer.shards import Shard, write_shard

from .conftest import HEADER, VOCAB, Trained, World, make_documents, read_lines, train

SOURCES = {"pubmed": 40, "general": 7}
BYTES_PER_TOKEN = 3


def write_held_out(directory: Path, digest: str = HEADER.tokenizer_digest) -> Path:
    """Documents of 2 to 60 tokens in two sources, each token of text 3 bytes."""
    (directory / "shards").mkdir(parents=True)
    sources = []
    for seed, (name, count) in enumerate(SOURCES.items(), start=100):
        documents = make_documents(f"held-{name}", count, seed)
        info = write_shard(directory / f"shards/{name}.arrow", documents, HEADER)
        sizes = tuple(BYTES_PER_TOKEN * (len(document.tokens) - 2) for document in documents)
        sources.append(HeldOutSource(name, info, sizes))
    text = HeldOutText(digest, VOCAB, tuple(sources))
    (directory / "held_out.json").write_text(json.dumps(dataclasses.asdict(text)))
    return directory


@pytest.fixture(scope="session")
def held_out(world: World) -> HeldOutJob:
    """All of it, every 4 steps of 256 tokens."""
    return HeldOutJob(directory=write_held_out(world.root / "held-out"), tokens=100_000, every_tokens=1024)


def whole(world: World, held_out: HeldOutJob, name: str, *, context_tokens: int = 32) -> Sample:
    source = next(s for s in load_held_out(held_out.directory, world.mixture).sources if s.name == name)
    return sample(held_out.directory, source, context_tokens=context_tokens, max_tokens=100_000)


def lines(run: Trained) -> list[dict[str, object]]:
    return [{key: line[key] for key in ("step", "tokens", "bits_per_byte")} for line in looks(run)]


def looks(run: Trained) -> list[dict[str, float | str | None]]:
    return read_lines(run.output / "held_out.jsonl")


@pytest.fixture(scope="session")
def watched(world: World, held_out: HeldOutJob) -> Trained:
    """Two ranks that look at the held-out text."""
    return train(world.job("watched", held_out=held_out), processes=2)


def test_looking_changes_no_bit_of_the_training(watched: Trained, uninterrupted: Trained) -> None:
    assert watched.code == 0, watched.stderr
    assert watched.weights == uninterrupted.weights
    for key in ("loss", "grad_norm", "digest", "lr"):
        assert watched.curve(key) == uninterrupted.curve(key)
    assert not (uninterrupted.output / "held_out.jsonl").read_text()


def test_it_is_looked_at_before_the_first_step_at_intervals_and_at_the_end(watched: Trained) -> None:
    assert [line["step"] for line in looks(watched)] == [0, 4, 8, 12, 16, 20, 24]
    assert [line["tokens"] for line in looks(watched)] == [1024 * n for n in range(7)]
    first, last = (dict(lines(watched)[n]["bits_per_byte"]) for n in (0, -1))  # type: ignore[call-overload]
    assert set(first) == set(last) == set(SOURCES)
    assert first["pubmed"] == pytest.approx(math.log2(VOCAB) / BYTES_PER_TOKEN, rel=0.1)
    assert last["pubmed"] < 0.95 * first["pubmed"]


@pytest.mark.parametrize("processes", [1, 4])
def test_any_number_of_ranks_comes_to_the_same_number(
    processes: int, watched: Trained, world: World, held_out: HeldOutJob
) -> None:
    job = world.job(f"watched-by-{processes}", held_out=held_out)
    run = train(job, processes=processes)
    assert lines(run)[0] == lines(watched)[0]  # the same weights: the same number to the last digit
    for ours, theirs in zip(lines(run), lines(watched), strict=True):
        assert ours["bits_per_byte"] == pytest.approx(theirs["bits_per_byte"], rel=1e-4)


def test_a_resumed_run_has_each_look_once_and_the_same(
    watched: Trained, world: World, held_out: HeldOutJob, ranks: Ranks
) -> None:
    """Stopped right after step 12: the look that was due then is made by the run that goes on."""
    alone = Run(*_parts(world, held_out, ranks, "watched-alone"))
    alone.train()
    job, _, parts = _parts(world, held_out, ranks, "watched-resumed")
    run = Run(job, ranks, parts)
    step = run._step

    def stopped_at_11(batch, **others):  # type: ignore[no-untyped-def]
        run.stop_asked = batch.step == 11
        return step(batch, **others)

    run._step = stopped_at_11  # type: ignore[method-assign]
    run.train()
    assert [line["step"] for line in looks(Trained(0, "", job.output))] == [0, 4, 8]
    with (job.output / "held_out.jsonl").open("a") as file:  # of a later crash, and half of another
        file.write('{"step": 16, "bits_per_byte": {}, "seconds": 2.0}\n{"step": 20')
    assert Run(*_parts(world, held_out, ranks, "watched-resumed")).train() == 0
    resumed = Trained(0, "", job.output)
    assert lines(resumed) == lines(Trained(0, "", alone.job.output))
    assert [e["redone_s"] for e in resumed.events if e["event"] == "resume"] == [2.0]


def _parts(world: World, held_out: HeldOutJob, ranks: Ranks, name: str):  # type: ignore[no-untyped-def]
    job = world.job(name, held_out=held_out)
    return job, ranks, assemble(job, ranks)


def test_the_last_look_is_the_bits_per_byte_of_the_exported_model(
    watched: Trained, world: World, held_out: HeldOutJob
) -> None:
    """By another way: each window alone through the exported Hugging Face model."""
    model = AutoModelForCausalLM.from_pretrained(watched.output / "model", dtype=torch.float32)
    said = dict(lines(watched)[-1]["bits_per_byte"])  # type: ignore[call-overload]
    for name in SOURCES:
        one, nats = whole(world, held_out, name), 0.0
        for placed in (placed for row in one.rows for placed in row):
            begin = one.shard.offsets[placed.row]
            tokens = one.shard.tokens[begin + placed.window.start : begin + placed.window.end].astype(np.int64)
            ids = torch.from_numpy(tokens)[None]
            with torch.no_grad():
                losses = cross_entropy(model(ids[:, :-1]).logits[0], ids[0, 1:], reduction="none")
            nats += float(losses[-placed.window.num_scored :].double().sum())
        assert said[name] == pytest.approx(nats / math.log(2) / one.text_bytes, rel=1e-5)


def test_goodput_counts_the_looks_as_a_part_of_their_own(watched: Trained) -> None:
    found = goodput(watched.output)
    assert found.held_out_s == pytest.approx(sum(float(line["seconds"] or 0) for line in looks(watched)))
    assert found.held_out_s > 0
    assert abs(found.other_s) < 0.5 * found.wall_s


@pytest.mark.parametrize("context_tokens", [4, 7, 32, 100])
def test_every_token_of_the_text_is_predicted_once_and_no_eos(
    context_tokens: int, world: World, held_out: HeldOutJob
) -> None:
    one = whole(world, held_out, "pubmed", context_tokens=context_tokens)
    predicted: Counter[tuple[int, int]] = Counter()
    for row in one.rows:
        ends = 0
        for placed in sorted(row, key=lambda placed: placed.place):
            assert placed.place == ends  # windows do not overlap, and leave no gap
            ends += placed.window.end - placed.window.start - 1
            predicted.update((placed.row, n) for n in range(placed.window.end)[-placed.window.num_scored :])
        assert ends <= context_tokens
    lengths = np.diff(one.shard.offsets)
    assert predicted == Counter({(row, n): 1 for row, length in enumerate(lengths) for n in range(1, length - 1)})
    assert one.num_tokens == predicted.total()


def test_a_row_holds_the_windows_and_shows_none_of_them_another(world: World, held_out: HeldOutJob) -> None:
    one = whole(world, held_out, "general")
    ids, positions, targets = one.microbatch(0, len(one.rows) + 2, 32)
    assert ids.shape == positions.shape == targets.shape == (len(one.rows) + 2, 32)
    assert int((targets >= 0).sum()) == one.num_tokens
    for number, row in enumerate(one.rows):
        for placed in row:
            inside = slice(placed.place, placed.place + placed.window.end - placed.window.start - 1)
            assert positions[number, inside].tolist() == list(range(inside.stop - inside.start))
    shown = targets[:, :-1] >= 0
    assert torch.equal(targets[:, :-1][shown & (positions[:, 1:] > 0)], ids[:, 1:][shown & (positions[:, 1:] > 0)])
    assert int((targets[len(one.rows) :] >= 0).sum()) == 0


def test_windows_are_packed_densely() -> None:
    random = np.random.default_rng(0)
    cut = [(row, Window(0, int(n) + 1, int(n))) for row, n in enumerate(random.integers(1, 64, size=400))]
    rows = pack(cut, 64)
    assert sum(w.num_scored for _, w in cut) > 0.94 * 64 * len(rows)


@pytest.mark.parametrize("num_tokens", [2, 3, 9, 10, 31, 100])
def test_a_window_sees_a_quarter_again_and_never_more_than_the_context(num_tokens: int) -> None:
    cut = list(windows(num_tokens, 8))
    assert cut[0].start == 0
    assert cut[-1].end == num_tokens
    assert sum(window.num_scored for window in cut) == num_tokens - 1
    assert all(1 <= window.end - window.start <= 9 for window in cut)
    assert all(later.start == earlier.end - 2 for earlier, later in pairwise(cut))


def test_by_default_looking_costs_a_small_share_of_the_compute(
    world: World, held_out: HeldOutJob, ranks: Ranks
) -> None:
    usual = dataclasses.replace(held_out, every_tokens=None)
    parts = assemble(world.job("cost"), ranks)
    samples = open_samples(usual, parts)
    run = Run(world.job("cost", held_out=usual), ranks, parts)
    row_tokens = sum(len(one.rows) for one in samples) * 32
    budget = world.mixture.token_budget
    assert all(one.documents < count for one, count in zip(samples, SOURCES.values(), strict=True))
    assert row_tokens / 3 * (budget / run.held_out.every_tokens) <= 0.031 * budget
    assert isinstance(run.held_out, HeldOut)


def test_text_of_another_tokenizer_and_damaged_text_are_refused(world: World, tmp_path: Path) -> None:
    other = write_held_out(tmp_path / "other", digest="e" * 64)
    with pytest.raises(ValueError, match=r"made with tokenizer eeee.* run tokenize_held_out again"):
        load_held_out(other, world.mixture)
    damaged = write_held_out(tmp_path / "damaged")
    path = damaged / "shards/general.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"general\.arrow is not the one"):
        load_held_out(damaged, world.mixture)
    assert Shard.open(damaged / "shards/pubmed.arrow").num_documents == SOURCES["pubmed"]
