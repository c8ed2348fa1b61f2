"""The harness against hand-computed log-likelihoods, stock lm-eval, and the traps of lm-eval."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from transformers import AutoTokenizer, PreTrainedModel

from domainlm.eval.benchmarks import Benchmark, Question, load_questions, prompt
from domainlm.eval.harness import ask
from domainlm.eval.models import load_encoder, load_model
from domainlm.eval.samples import Sample
from domainlm.eval.scores import score_benchmark

from .conftest import save_model

CLOZE = Benchmark("cloze", "medqa", "unused")
LETTERS = Benchmark("letters", "medqa", "unused", style="letters")
PUBMEDQA = Benchmark("pubmedqa", "pubmedqa", "unused")
WORDS = ["the", "drug", "lowers", "blood", "pressure", "patients", "placebo", "option", "answer", "received", "forty"]


def load(directory: Path) -> PreTrainedModel:
    return load_model(directory, weights="trained", seed=0, dtype="float32", device="cpu")


def questions(number: int, num_words: int = 12) -> list[Question]:
    """Balanced four-option questions of random words with options of one to three words."""
    chance = random.Random(1)
    phrase = lambda most: " ".join(chance.choices(WORDS, k=chance.randint(1, most)))  # noqa: E731
    return [
        Question(str(n), " ".join(chance.choices(WORDS, k=num_words)), "", tuple(phrase(3) for _ in range(4)), n % 4)
        for n in range(number)
    ]


def answers(
    model_dir: Path,
    benchmark: Benchmark,
    asked: Sequence[Question],
    *,
    model: PreTrainedModel | None = None,
    context_tokens: int = 128,
    batch_size: int = 3,
) -> tuple[Sample, ...]:
    model = load(model_dir) if model is None else model
    encoder = load_encoder(model_dir, model)
    return ask(
        model,
        encoder,
        benchmark,
        asked,
        context_tokens=context_tokens,
        batch_size=batch_size,
        progress=lambda done, total: None,
    )


@pytest.mark.parametrize("benchmark", [CLOZE, LETTERS], ids=["cloze", "letters"])
@pytest.mark.parametrize("bos", [True, False])
def test_log_likelihoods_agree_with_those_computed_by_hand(model_dir: Path, benchmark: Benchmark, bos: bool) -> None:
    benchmark = Benchmark(benchmark.name, "medqa", "unused", style=benchmark.style, bos=bos)
    asked = questions(5)
    model, tokenizer = load(model_dir), AutoTokenizer.from_pretrained(model_dir)
    for question, sample in zip(asked, answers(model_dir, benchmark, asked), strict=True):
        text = prompt(benchmark, question)
        for continuation, found, size in zip(
            text.continuations, sample.log_likelihoods, sample.option_bytes, strict=True
        ):
            head = ([tokenizer.bos_token_id] if bos else []) + tokenizer.encode(text.text, add_special_tokens=False)
            tail = tokenizer.encode(" " + continuation, add_special_tokens=False)
            assert found == pytest.approx(sum_of_logs(model, head, tail), abs=2e-4)
            assert size == len(continuation) + 1
        assert not sample.truncated


class StockLM(TemplateLM):  # type: ignore[misc]  # lm-eval ships no types
    """lm-eval's own splitting of context and continuation, one plain forward a request."""

    def __init__(self, model_dir: Path) -> None:
        super().__init__()
        self.tokenizer, self.model = AutoTokenizer.from_pretrained(model_dir), load(model_dir)

    eot_token_id = 1
    loglikelihood_rolling = generate_until = None

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        return list(self.tokenizer.encode(string, add_special_tokens=False))

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        return [(sum_of_logs(self.model, head, tail), False) for _, head, tail in requests]


def sum_of_logs(model: PreTrainedModel, head: list[int], tail: list[int]) -> float:
    """The definition of a log-likelihood, one token at a time."""
    with torch.no_grad():
        logs = model(torch.tensor([head + tail])).logits[0].log_softmax(-1)
    return sum(float(logs[len(head) - 1 + n, token]) for n, token in enumerate(tail))


def test_log_likelihoods_agree_with_stock_lm_eval(model_dir: Path) -> None:
    asked = questions(6)
    texts = [prompt(CLOZE, question) for question in asked]
    pairs = [(text.text, f" {option}") for text in texts for option in text.continuations]
    requests = [Instance("loglikelihood", {}, pair, n) for n, pair in enumerate(pairs)]
    expected = [score for score, _ in StockLM(model_dir).loglikelihood(requests, disable_tqdm=True)]
    without_bos = Benchmark("cloze", "medqa", "unused", bos=False)
    found = [score for sample in answers(model_dir, without_bos, asked) for score in sample.log_likelihoods]
    assert found == pytest.approx(expected, abs=2e-4)


def test_the_batch_size_changes_no_choice(model_dir: Path) -> None:
    asked = questions(9)
    for one, nine in zip(
        answers(model_dir, CLOZE, asked, batch_size=1), answers(model_dir, CLOZE, asked, batch_size=9), strict=True
    ):
        assert one.log_likelihoods == pytest.approx(nine.log_likelihoods, abs=2e-4)
        assert (one.question_id, one.choice) == (nine.question_id, nine.choice)


def test_only_the_first_questions_are_asked_up_to_the_limit(model_dir: Path) -> None:
    limited = Benchmark("cloze", "medqa", "unused", limit=2)
    assert [sample.question_id for sample in answers(model_dir, limited, questions(5))] == ["0", "1"]


def test_braces_and_special_tokens_in_a_question_are_only_text(model_dir: Path) -> None:
    asked = [Question("0", "Is {{ 1 + 1 }} {% if x %} a </s> drug?", "", ("</s>", "the drug"), 0)]
    sample = answers(model_dir, CLOZE, asked)[0]
    assert sample.option_bytes == (5, 9)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    assert len(load_encoder(model_dir, load(model_dir)).encode([" </s>"])[0]) > 1
    assert tokenizer.encode("</s>", add_special_tokens=False) == [tokenizer.eos_token_id]


def test_a_model_with_nan_weights_is_refused(model_dir: Path) -> None:
    model = load(model_dir)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match=r"question 0: log-likelihoods are \(nan.*not finite"):
        answers(model_dir, PUBMEDQA, [Question("0", "Does it?", "We tried.", ("yes", "no", "maybe"), 0)], model=model)


def test_a_model_that_always_says_the_same_is_called_degenerate(model_dir: Path) -> None:
    model = load(model_dir)
    with torch.no_grad():
        next(model.parameters()).zero_()  # tied: every logit is 0
    options = ("yes", "no", "maybe")
    asked = [Question(str(n), f"Does it {word}?", "We tried.", options, n % 2) for n, word in enumerate(WORDS)]
    samples = answers(model_dir, PUBMEDQA, asked, model=model)
    note = score_benchmark(PUBMEDQA, samples, 0)[0].note
    assert note.startswith(f"degenerate: always '{options[samples[0].choice]}'")
    different = score_benchmark(PUBMEDQA, [*samples, Sample("x", (-9.0, -9.0, -1.0), (4, 3, 6), 2, 0, False, False)], 0)
    assert "degenerate" not in different[0].note


def test_cut_contexts_are_counted_and_the_same_for_every_option(model_dir: Path) -> None:
    short, long = questions(1, num_words=4)[0], questions(2, num_words=60)[1]
    samples = answers(model_dir, CLOZE, [short, long], context_tokens=64)
    assert [sample.truncated for sample in samples] == [False, True]
    assert "1 of 2 contexts were cut from the left" in score_benchmark(CLOZE, samples, 0)[0].note
    tokenizer, model = AutoTokenizer.from_pretrained(model_dir), load(model_dir)
    head = [tokenizer.bos_token_id, *tokenizer.encode(prompt(CLOZE, long).text, add_special_tokens=False)]
    tails = [tokenizer.encode(f" {option}", add_special_tokens=False) for option in long.options]
    head = head[-(64 + 1 - max(map(len, tails))) :]
    for tail, found in zip(tails, samples[1].log_likelihoods, strict=True):
        assert found == pytest.approx(sum_of_logs(model, head, tail), abs=2e-4)


def test_an_option_longer_than_the_context_is_refused(model_dir: Path) -> None:
    asked = [Question("0", "Which?", "", ("drug " * 40, "no"), 0)]
    with pytest.raises(ValueError, match="more than 16"):
        answers(model_dir, CLOZE, asked, context_tokens=16)


def test_an_untrained_twin_is_at_chance_on_a_balanced_set(model_dir: Path) -> None:
    twin = load_model(model_dir, weights="untrained", seed=3, dtype="float32", device="cpu")
    for benchmark in (CLOZE, LETTERS):
        accuracy = score_benchmark(
            benchmark, answers(model_dir, benchmark, questions(200), model=twin, batch_size=16), 0
        )[0]
        assert accuracy.low is not None
        assert accuracy.high is not None
        assert accuracy.low < 0.25 < accuracy.high
        assert accuracy.chance == 0.25


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "style"), [("medqa", "cloze"), ("medqa", "letters"), ("pubmedqa", "cloze")], ids=lambda value: str(value)
)
def test_the_real_benchmarks_are_asked_offline(tmp_path: Path, realdata: Path, name: str, style: str) -> None:
    save_model(tmp_path, max_positions=4096)
    path = str(realdata / f"benchmarks/{name}/test.jsonl")
    benchmark = Benchmark(name, name, path, style=style, limit=20)  # type: ignore[arg-type]
    samples = answers(tmp_path, benchmark, load_questions(benchmark), context_tokens=4096)
    accuracy = score_benchmark(benchmark, samples, 0)[0]
    assert (accuracy.num_questions, accuracy.chance) == (20, 0.25 if name == "medqa" else 0.3333)
    assert len({sample.log_likelihoods for sample in samples}) == 20
    assert not any(sample.truncated for sample in samples)
