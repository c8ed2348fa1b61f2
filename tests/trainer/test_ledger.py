import dataclasses
from collections import Counter

import pytest

from domainlm.trainer.ledger import Ledger
from domainlm.trainer.loader import MASKED, Loader

from .conftest import World


@pytest.fixture(scope="module")
def ledger(world: World) -> Ledger:
    return Ledger(world.mixture, world.directories)


def test_the_two_directions_agree_on_every_document_and_step(ledger: Ledger) -> None:
    by_step = Counter({(row.doc_id, step): row.tokens for step in range(24) for row in ledger.documents_of_step(step)})
    by_document: Counter[tuple[str, int]] = Counter()
    for stream in ledger.streams:
        for shard in stream.shards:
            for doc_id in shard.doc_ids.to_pylist():
                for row in ledger.steps_of_document(doc_id):
                    by_document[doc_id, row.step] += row.tokens
    assert by_step == by_document


def test_every_step_has_exactly_its_tokens(ledger: Ledger, world: World) -> None:
    for step in range(world.mixture.num_steps):
        assert sum(row.tokens for row in ledger.documents_of_step(step)) == world.mixture.batch_tokens


def test_every_token_of_the_budget_is_accounted_for(ledger: Ledger, world: World) -> None:
    books = ledger.accounting()
    assert books.remainder_tokens == 100
    assert sum(row.trained_tokens for row in books.corpora) + books.remainder_tokens == world.mixture.token_budget
    for row, corpus in zip(books.corpora, world.mixture.corpora, strict=True):
        assert row.stream_tokens == corpus.tokens == row.seen_tokens + row.unseen_tokens + row.tail_tokens
        assert 1 <= row.tail_tokens <= world.mixture.sequence_tokens
        counted = sum(r.tokens for step in range(24) for r in ledger.documents_of_step(step) if r.corpus == row.corpus)
        assert counted == row.trained_tokens


def test_masked_targets_in_the_books_are_those_of_the_loader(ledger: Ledger, world: World) -> None:
    loader = Loader(ledger.sampler, ledger.streams, rank=0, num_ranks=1)
    masked = sum(int((loader.batch(step).targets == MASKED).sum()) for step in range(world.mixture.num_steps))
    assert masked == sum(row.masked_targets for row in ledger.accounting().corpora) > 0


def test_a_longer_budget_only_adds_steps(ledger: Ledger, world: World) -> None:
    longer = Ledger(dataclasses.replace(world.mixture, token_budget=60 * 256), world.directories)
    assert [longer.documents_of_step(step) for step in (0, 23)] == [ledger.documents_of_step(s) for s in (0, 23)]
    before, after = ledger.steps_of_document("pubmed-0/3"), longer.steps_of_document("pubmed-0/3")
    assert after[: len(before)] == before


def test_a_document_carries_its_source_and_licence(ledger: Ledger) -> None:
    rows = ledger.documents_of_step(0)
    assert {row.license for row in rows} == {"CC0-1.0"}
    assert all(row.doc_id.startswith(row.source) and row.source.startswith(row.corpus) for row in rows)


def test_what_the_run_does_not_have_is_refused(ledger: Ledger, world: World) -> None:
    with pytest.raises(ValueError, match=r"step 24 .* steps 0 to 23"):
        ledger.documents_of_step(24)
    with pytest.raises(ValueError, match="no document `nobody`"):
        ledger.steps_of_document("nobody")
    with pytest.raises(ValueError, match="directories are given for pubmed"):
        Ledger(world.mixture, {"pubmed": world.directories["pubmed"]})


def test_skipped_steps_are_in_the_books_and_in_both_directions(world: World) -> None:
    skipped = frozenset({3, 4, 17})
    whole, ledger = Ledger(world.mixture, world.directories), Ledger(world.mixture, world.directories, skipped)
    account, before = ledger.accounting(), whole.accounting()
    assert sum(c.skipped_tokens for c in account.corpora) == 3 * 256
    assert (
        sum(c.trained_tokens + c.skipped_tokens for c in account.corpora) + account.remainder_tokens == 24 * 256 + 100
    )
    for corpus, whole_corpus in zip(account.corpora, before.corpora, strict=True):
        assert corpus.trained_tokens + corpus.skipped_tokens == whole_corpus.trained_tokens
        assert corpus.seen_tokens + corpus.unseen_tokens + corpus.tail_tokens == corpus.stream_tokens
    for step in range(24):
        for row in ledger.documents_of_step(step):
            assert row.trained == (step not in skipped)
            assert {r.trained for r in ledger.steps_of_document(row.doc_id) if r.step == step} == {row.trained}


def test_what_only_skipped_steps_hold_is_unseen_and_its_masked_targets_are_not_counted(world: World) -> None:
    ledger = Ledger(world.mixture, world.directories, frozenset(range(24)))
    for corpus in ledger.accounting().corpora:
        assert (corpus.trained_tokens, corpus.seen_tokens, corpus.masked_targets, corpus.epochs) == (0, 0, 0, 0)
