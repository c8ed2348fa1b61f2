import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlm.trainer.sampler import Sampler, Span, counts_before, spans, split, unsplit

from .conftest import World

SHARES = st.lists(st.integers(1, 1_000_000), min_size=1, max_size=6).map(tuple)


@given(shares=SHARES, first=st.integers(0, 2**40))
def test_the_split_and_its_inverse_agree(shares: tuple[int, ...], first: int) -> None:
    numbers = np.arange(first, first + 50)
    corpus, local = split(numbers, shares)
    back = [unsplit(int(c), np.array([j]), shares)[0] for c, j in zip(corpus, local, strict=True)]
    assert back == numbers.tolist()


@given(shares=SHARES, count=st.integers(0, 400))
def test_each_corpus_is_read_in_order_without_a_gap(shares: tuple[int, ...], count: int) -> None:
    corpus, local = split(np.arange(count), shares)
    for number, expected in enumerate(counts_before(count, shares)):
        assert local[corpus == number].tolist() == list(range(expected))


@given(shares=SHARES, count=st.integers(0, 2**40))
def test_every_prefix_has_the_token_shares_to_within_a_sequence_a_corpus(shares: tuple[int, ...], count: int) -> None:
    counts = counts_before(count, shares)
    assert sum(counts) == count
    for number, (found, share) in enumerate(zip(counts, shares, strict=True)):
        exact = count * share // sum(shares)
        assert exact - 1 <= found <= exact + max(1, number)


@given(ppm=st.integers(1, 999_999), count=st.integers(0, 10_000))
def test_with_replay_every_prefix_is_exact_to_within_one_sequence(ppm: int, count: int) -> None:
    for found, share in zip(counts_before(count, (ppm, 1_000_000 - ppm)), (ppm, 1_000_000 - ppm), strict=True):
        assert abs(found - count * share / 1_000_000) < 1


def test_each_window_is_read_once_an_epoch_and_its_sequences_are_found_again(world: World) -> None:
    sampler = Sampler(world.mixture)
    seen: dict[tuple[int, int], list[int]] = {}
    for sequence, place in enumerate(sampler.locate_range(0, world.mixture.num_sequences)):
        seen.setdefault((place.corpus, place.window), []).append(sequence)
        assert place == sampler.locate(sequence)
    for corpus, windows in enumerate(sampler.num_windows):
        epochs = counts_before(world.mixture.num_sequences, world.mixture.shares_ppm)[corpus] / windows
        for window in range(windows):
            found = sampler.sequences_of_window(corpus, window)
            assert found == seen.get((corpus, window), [])
            assert math.floor(epochs) <= len(found) <= math.ceil(epochs)


@pytest.mark.parametrize("num_ranks", [1, 2, 4, 8])
def test_the_order_does_not_depend_on_ranks(world: World, num_ranks: int) -> None:
    sampler = Sampler(world.mixture)
    parts = [sampler.locate_step(5, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    assert [place for part in parts for place in part] == sampler.locate_step(5)


def test_a_window_may_span_shards(world: World) -> None:
    corpus = world.mixture.corpora[0]
    size = corpus.shards[0].tokens
    assert spans(corpus, size - 3, 10) == [Span(0, size - 3, 3), Span(1, 0, 7)]
    with pytest.raises(ValueError, match="outside corpus `pubmed`"):
        spans(corpus, corpus.tokens - 3, 10)
