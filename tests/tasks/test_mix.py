import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from domainlm.tasks.mix import BudgetTooLarge, MixConfig, largest_budget, mix, repetitions, shares_ppm
from domainlm.tasks.tokenize import TokenizeConfig, tokenize
from domainlm.tasks.train_tokenizer import TokenizerConfig, train_tokenizer
from domainlm.trainer.mixture import CorpusTokens, Mixture, ShardInfo, load_mixture


def mixture(tokens: dict[str, int], shares: dict[str, float], budget: int) -> Mixture:
    ppm = shares_ppm(shares)
    corpora = tuple(
        CorpusTokens(name, ppm[name], count, 1, (ShardInfo("shards/00000.arrow", count, 1, "0" * 64),))
        for name, count in tokens.items()
    )
    return Mixture(0, 16, 64, budget, "0" * 64, 400, corpora)


@pytest.fixture
def corpora(store, make_corpus, tokenizer, runtime):
    """Two tokenized corpora, `drugs` three times as large as `plain`, and their tokenizer."""
    texts = {"drugs": [f"Dose {n} of amcoril for fever." for n in range(90)], "plain": [f"Day {n}." for n in range(60)]}
    inputs = {"tokenizer": tokenizer}
    for name, lines in texts.items():
        documents = {"documents": make_corpus(name, lines), "tokenizer": tokenizer}
        inputs[f"corpus.{name}"] = tokenize.build(store, TokenizeConfig(), documents, runtime, label=name).part()
    return inputs


def test_a_mixture_names_corpora_shares_and_shards_and_no_path(store, corpora, runtime):
    config = MixConfig(
        token_shares={"drugs": 0.8, "plain": 0.2}, token_budget=1_024, sequence_tokens=16, batch_tokens=64
    )
    sealed = mix.build(store, config, corpora, runtime)
    written = load_mixture(sealed.path / "mixture.json")
    assert [(c.name, c.share_ppm, c.documents) for c in written.corpora] == [
        ("drugs", 800_000, 90),
        ("plain", 200_000, 60),
    ]
    assert written.num_steps == 16
    assert str(store.root) not in (sealed.path / "mixture.json").read_text()


def test_counts_say_how_often_each_corpus_is_repeated_and_what_its_tail_is(store, corpora, runtime):
    shares = {"drugs": 0.5, "plain": 0.5}
    config = MixConfig(token_shares=shares, token_budget=2_048, sequence_tokens=16, batch_tokens=64, max_repetitions=9)
    sealed = mix.build(store, config, corpora, runtime)
    plain = load_mixture(sealed.path / "mixture.json").corpora[1]
    windows = (plain.tokens - 1) // 16
    assert sealed.manifest.counts["repetitions.plain"] == round(64 / windows, 4)
    assert sealed.manifest.counts["tail_tokens.plain"] == plain.tokens - 16 * windows
    assert sealed.manifest.counts["tokens"] == 2_048


def test_a_share_without_a_source_and_a_source_without_a_share_are_named(store, corpora, runtime):
    config = MixConfig(token_shares={"drugs": 0.8, "plane": 0.2}, token_budget=1_024)
    with pytest.raises(
        ValueError, match=r"a share for plane.* no share for the source plain\. The sources are drugs, plain"
    ):
        mix.build(store, config, corpora, runtime)


def test_shares_that_are_no_whole_are_refused_with_their_sum():
    with pytest.raises(ValidationError, match=r"sum to 0\.9 \(drugs 0\.7, plain 0\.2\)"):
        MixConfig(token_shares={"drugs": 0.7, "plain": 0.2}, token_budget=1_024)


def test_a_budget_that_is_too_large_is_refused_with_the_largest_that_fits(store, corpora, runtime):
    shares = {"drugs": 0.5, "plain": 0.5}
    config = MixConfig(token_shares=shares, token_budget=10_240, sequence_tokens=16, batch_tokens=64)
    with pytest.raises(BudgetTooLarge, match=r"`plain` has [\d,]+ tokens and is asked for 5,120 \(50\.0%") as caught:
        mix.build(store, config, corpora, runtime)
    largest = int(str(caught.value).split("token_budget to ")[1].split(" at most")[0].replace(",", ""))
    fitting = config.model_copy(update={"token_budget": largest})
    assert mix.build(store, fitting, corpora, runtime).manifest.counts["repetitions.plain"] <= 1
    with pytest.raises(BudgetTooLarge):
        mix.build(store, config.model_copy(update={"token_budget": largest + 64}), corpora, runtime)


def test_corpora_of_another_tokenizer_are_refused(store, corpora, make_corpus, runtime):
    texts = [f"quite other words {n}" for n in range(50)]
    other = train_tokenizer.build(
        store, TokenizerConfig(vocab_size=300), {"corpus.other": make_corpus("other", texts)}, runtime
    )
    config = MixConfig(token_shares={"drugs": 0.8, "plain": 0.2}, token_budget=1_024)
    with pytest.raises(ValueError, match="corpus `drugs` was tokenized with"):
        mix.build(store, config, {**corpora, "tokenizer": other.part("tokenizer")}, runtime)


@given(st.lists(st.floats(1e-9, 1, allow_nan=False), min_size=1, max_size=12))
def test_shares_become_parts_per_million_that_sum_exactly_and_are_never_zero(raw):
    shares = {f"s{n}": value / sum(raw) for n, value in enumerate(raw)}
    ppm = shares_ppm(shares)
    assert sum(ppm.values()) == 1_000_000
    assert min(ppm.values()) >= 1
    assert all(abs(ppm[name] - share * 1e6) <= 1 + len(raw) for name, share in shares.items())


@given(st.integers(40, 3_000), st.integers(40, 3_000), st.floats(0.05, 0.95), st.floats(0.5, 5))
@example(161, 81, 0.6875, 1.9)  # 19 of 10 windows are exactly what is allowed, although 1.9 in binary is less
def test_the_largest_budget_fits_and_one_step_more_does_not(first, second, share, allowed):
    shares = {"a": share, "b": 1 - share}
    asked = mixture({"a": first, "b": second}, shares, 64)
    largest = largest_budget(asked, allowed)
    if largest:
        assert max(repetitions(mixture({"a": first, "b": second}, shares, largest))) <= allowed
    assert max(repetitions(mixture({"a": first, "b": second}, shares, largest + 64))) > allowed
