"""The loop in this process, one rank: what a step does, what stops it before the first."""

import dataclasses
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from domainlm.trainer.__main__ import prepare
from domainlm.trainer.assemble import Parts, assemble
from domainlm.trainer.config import ModelConfig, TrainConfig
from domainlm.trainer.job import Place, TrainJob
from domainlm.trainer.ledger import open_streams
from domainlm.trainer.loader import Loader, digest_parts, join_digest
from domainlm.trainer.loop import Run
from domainlm.trainer.mixture import CorpusTokens, Mixture, save_mixture
from domainlm.trainer.preflight import check_room
from domainlm.trainer.ranks import Ranks, _mesh, join
from domainlm.trainer.sampler import Sampler

from .conftest import TINY, VOCAB, Trained, World, read_lines, write_tokenizer


def run_here(job: TrainJob, ranks: Ranks) -> Trained:
    """Train a job in this process."""
    return Trained(Run(job, ranks, assemble(job, ranks)).train(), "", job.output)


@pytest.fixture(scope="module")
def finished(world: World, ranks: Ranks) -> Trained:
    return run_here(world.job("finished"), ranks)


def snapshot(parts: Parts) -> list[bytes]:
    """Parameters, moments and the number of updates, as bytes."""
    moments = [moment for kind in parts.optimizer.moments().values() for moment in kind.values()]
    tensors = [*parts.optimizer.shards.values(), *moments]
    return [tensor.detach().numpy().tobytes() for tensor in tensors] + [bytes([parts.optimizer.num_updates])]


def test_a_run_leaves_one_line_a_step_and_learns(finished: Trained, world: World) -> None:
    assert finished.code == 0
    assert [line["step"] for line in finished.metrics] == list(range(24))
    assert [line["tokens"] for line in finished.metrics] == [256 * (step + 1) for step in range(24)]
    assert set(finished.metrics[0]) == {
        "step", "tokens", "loss", "grad_norm", "lr", "tokens_per_s", "mfu", "step_s", "data_s", "stall_s", "digest",
        "skipped", "slowest_rank", "slowest_ratio", "ended_s"}  # fmt: skip
    losses = [float(line["loss"] or 0) for line in finished.metrics]
    assert losses[0] == pytest.approx(np.log(VOCAB), abs=0.4)
    assert losses[-1] < losses[0] - 0.3
    assert [line["event"] for line in finished.events] == ["start", "done"]
    done = json.loads((finished.output / "done.json").read_text())
    assert (done["steps"], done["tokens"], done["skipped_steps"], done["skipped"]) == (24, 24 * 256, 0, {})
    assert done["parameters"] == TINY.shape.num_parameters(VOCAB)
    names = {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in (finished.output / "model").iterdir()} == names


def test_a_microbatch_is_place_and_changes_rounding_only(finished: Trained, world: World, ranks: Ranks) -> None:
    for size in (3, 8):
        other = run_here(world.job(f"micro{size}", place=Place(device="cpu", microbatch_sequences=size)), ranks)
        assert other.curve("digest") == finished.curve("digest")
        assert other.curve() == pytest.approx(finished.curve(), rel=1e-5)


def test_bf16_follows_fp32(finished: Trained, world: World, ranks: Ranks) -> None:
    config = dataclasses.replace(world.job("bf16").config, precision="bf16", export_precision="bf16")
    run = run_here(world.job("bf16", config=config), ranks)
    assert run.curve() == pytest.approx(finished.curve(), rel=0.02)
    assert run.curve() != finished.curve()
    assert json.loads((run.output / "model/config.json").read_text())["dtype"] == "bfloat16"


def test_the_step_digest_is_the_same_for_any_number_of_ranks(finished: Trained, world: World) -> None:
    streams, sampler = open_streams(world.mixture, world.directories), Sampler(world.mixture)
    for num_ranks in (1, 2, 4):
        batches = [Loader(sampler, streams, rank=rank, num_ranks=num_ranks).batch(7) for rank in range(num_ranks)]
        sums = [sum(column) for column in zip(*(digest_parts(batch.digest) for batch in batches), strict=True)]
        assert join_digest(sums) == finished.curve("digest")[7]
        targets = torch.cat([batch.targets for batch in batches])
        assert {batch.num_targets for batch in batches} == {int((targets >= 0).sum())}


def test_a_batch_predicts_every_token_but_the_first_of_a_document(world: World) -> None:
    streams = open_streams(world.mixture, world.directories)
    batch = Loader(Sampler(world.mixture), streams, rank=0, num_ranks=1).batch(3)
    assert torch.equal(batch.input_ids[:, 1:], batch.targets[:, :-1].where(batch.targets[:, :-1] >= 0, 0))
    assert torch.equal(batch.position_ids == 0, (batch.input_ids == 0) | (torch.arange(32) == 0))
    follows = batch.position_ids[:, 1:] - batch.position_ids[:, :-1]
    assert torch.equal(follows == 1, batch.position_ids[:, 1:] > 0)
    assert int((batch.targets == 0).sum()) == 0


def test_a_non_finite_gradient_touches_nothing_and_the_next_step_is_normal(world: World, ranks: Ranks) -> None:
    job = world.job("nan")
    parts = assemble(job, ranks)
    run = Run(job, ranks, parts)
    run._step(parts.loader.batch(0))
    norm = parts.optimizer.shards["model.norm.weight"]
    good = norm[0].item()
    norm.data[0] = torch.inf
    before = snapshot(parts)
    run._step(parts.loader.batch(1))
    assert snapshot(parts) == before
    norm.data[0] = good
    run._step(parts.loader.batch(1))
    assert parts.optimizer.num_updates == 2
    lines = read_lines(job.output / "metrics.jsonl")
    assert [line["loss"] is None for line in lines] == [False, True, False]
    assert float(lines[2]["loss"] or 99) < 5
    events = read_lines(job.output / "events.jsonl")
    assert [(e["event"], e["step"], e["digest"]) for e in events] == [("skip", 1, lines[1]["digest"])]


def test_training_continues_from_given_weights(finished: Trained, world: World, ranks: Ranks) -> None:
    config = dataclasses.replace(world.job("on").config, model=None, peak_lr=1e-3)
    run = run_here(world.job("on", config=config, init_from=finished.output / "model"), ranks)
    assert float(run.curve()[0] or 99) < float(finished.curve()[12] or 0)
    assert run.code == 0
    assert run.weights != finished.weights


def test_z_loss_is_part_of_the_loss(finished: Trained, world: World, ranks: Ranks) -> None:
    config = dataclasses.replace(world.job("z").config, z_loss=0.1)
    run = run_here(world.job("z", config=config), ranks)
    assert float(run.curve()[0] or 0) > float(finished.curve()[0] or 0) + 0.5


def test_checkpoints_are_kept_by_age_and_for_good(world: World, ranks: Ranks) -> None:
    often = Place(device="cpu", checkpoint_every_s=1e-4, keep_checkpoints=1, keep_every_steps=8)
    run = run_here(world.job("kept", place=often), ranks)
    made = [int(float(line["step"] or 0)) for line in run.events if line["event"] == "checkpoint"]
    for_good = {min(step for step in made if step // 8 == span) for span in (1, 2) if any(s // 8 == span for s in made)}
    kept = {int(path.name[5:]) for path in (run.output / "checkpoints").glob("step-*")}
    assert kept == {*for_good, made[-1]}
    assert for_good
    assert sum(float(line["stall_s"] or 0) for line in run.metrics) > 0


def test_shards_are_hashed_again_when_they_have_changed_however_well_it_is_hidden(broken: World, ranks: Ranks) -> None:
    job, shard = broken.job("once"), broken.root / "general/shards/00001.arrow"
    assemble(job, ranks)
    known = (job.output / "verified.json").stat().st_mtime_ns
    assemble(job, ranks)
    assert (job.output / "verified.json").stat().st_mtime_ns == known
    data, stat = bytearray(shard.read_bytes()), shard.stat()
    data[len(data) // 2] ^= 4
    shard.write_bytes(data)
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(ValueError, match=r"00001\.arrow is not the one that was mixed"):
        assemble(job, ranks)


@pytest.fixture
def broken(world: World, tmp_path: Path) -> World:
    """A copy of the world to break."""
    shutil.copytree(world.root / "pubmed", tmp_path / "pubmed")
    shutil.copytree(world.root / "general", tmp_path / "general")
    shutil.copytree(world.root / "tokenizer", tmp_path / "tokenizer")
    save_mixture(world.mixture, tmp_path / "mixture.json")
    return World(tmp_path, world.mixture, {name: tmp_path / name for name in world.directories})


def _short_positions(world: World) -> TrainJob:
    return world.job("x", config=TrainConfig(model=dataclasses.replace(TINY, max_positions=16)))


def _other_tokenizer(world: World) -> TrainJob:
    write_tokenizer(world.root / "other", VOCAB + 6)
    return world.job("x", tokenizer=world.root / "other")


def _no_tokenizer(world: World) -> TrainJob:
    return world.job("x", tokenizer=world.root / "pubmed")


def _no_corpus(world: World) -> TrainJob:
    return world.job("x", corpora={"pubmed": world.root / "pubmed"})


def _no_directory(world: World) -> TrainJob:
    return world.job("x", corpora={**world.directories, "general": world.root / "gone"})


def _no_shard(world: World) -> TrainJob:
    (world.root / "general/shards/00001.arrow").unlink()
    return world.job("x")


def _flipped_bit(world: World) -> TrainJob:
    path = world.root / "general/shards/00001.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    return world.job("x")


def _tokens_of_another(world: World) -> TrainJob:
    other = dataclasses.replace(world.mixture, tokenizer_digest="e" * 64)
    save_mixture(other, world.root / "mixture.json")
    return world.job("x")


def _small_budget(world: World) -> TrainJob:
    path = world.root / "mixture.json"
    path.write_text(path.read_text().replace('"token_budget": 6244', '"token_budget": 200'))
    return world.job("x")


def _no_weights(world: World) -> TrainJob:
    config = TrainConfig(model=None)
    return world.job("x", config=config, init_from=world.root / "nowhere")


def _no_gpu(world: World) -> TrainJob:
    join("cuda")
    return world.job("x")


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (_short_positions, "sequences of 32 tokens are longer than the 16 positions of config.model; lower"),
        (_other_tokenizer, "has 70 entries, but the mixture's tokens are of a vocabulary of 64"),
        (_no_tokenizer, "has no tokenizer.json; a Hugging Face directory is needed"),
        (_no_corpus, "has the corpora general, pubmed, but directories are given for pubmed"),
        (_no_directory, "`corpora.general` is .*gone, but there is no such directory"),
        (_no_shard, r"token shard .*00001\.arrow does not exist"),
        (_flipped_bit, r"00001\.arrow is not the one that was mixed"),
        (_tokens_of_another, "was made with tokenizer d+ .* but the mixture with e+ .*tokenize it again"),
        (_small_budget, "the token budget 200 is less than one step of 256"),
        (_no_weights, "`init_from` is .*nowhere, but there is no such directory"),
        pytest.param(
            _no_gpu,
            "torch sees no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here"),
        ),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_step(
    breaks: Callable[[World], TrainJob], says: str, broken: World, ranks: Ranks
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        assemble(breaks(broken), ranks)
    assert not (broken.root / "x").exists()


def test_a_disk_without_room_for_two_checkpoints_is_refused(tmp_path: Path) -> None:
    """Before the first step; a run that has checkpoints makes room by itself."""
    check_room(tmp_path / "out", 1000)
    whole = shutil.disk_usage(tmp_path).total
    with pytest.raises(ValueError, match=r"two checkpoints of [\d,.]+ GB .* GB free\. Free some room"):
        check_room(tmp_path / "out", whole)
    (tmp_path / "out/checkpoints/step-00000100").mkdir(parents=True)
    check_room(tmp_path / "out", whole)


def test_a_run_begins_by_looking_for_room(world: World, ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(free=0))
    with pytest.raises(ValueError, match=r"has 0\.0 GB free"):
        prepare(world.job("no-room"), ranks)


def test_a_step_must_divide_among_the_ranks(world: World, ranks: Ranks) -> None:
    three = dataclasses.replace(ranks, num_ranks=3)
    with pytest.raises(ValueError, match=r"8 sequences .* among 3 ranks; run on 2 ranks"):
        assemble(world.job("three"), three)


def test_weights_of_another_vocabulary_are_refused(world: World, finished: Trained, ranks: Ranks) -> None:
    directory = world.root / "wide"
    shutil.copytree(finished.output / "model", directory)
    write_tokenizer(directory, VOCAB * 2)
    with pytest.raises(ValueError, match="has 128 entries"):
        assemble(world.job("wide-out", config=TrainConfig(model=None), init_from=directory), ranks)


def test_a_corpus_smaller_than_a_sequence_is_refused(world: World) -> None:
    corpus = world.mixture.corpora[0]
    small = dataclasses.replace(corpus.shards[0], tokens=10)
    tiny = CorpusTokens(corpus.name, 1_000_000, 10, small.documents, (small,))
    with pytest.raises(ValueError, match=r"`pubmed` has 10 tokens, but one sequence needs 33"):
        Mixture(**{**vars(world.mixture), "corpora": (tiny,)})


def test_the_default_model_is_the_demo_size() -> None:
    assert ModelConfig().shape.num_parameters(4096) == 5_868_800


def test_ranks_that_do_not_divide_into_groups_are_refused(ranks: Ranks) -> None:
    with pytest.raises(ValueError, match=r"1 ranks do not divide into groups of place.shard_ranks = 2"):
        _mesh("cpu", 2)
    assert _mesh("cpu", None).mesh_dim_names == ("shard",)
