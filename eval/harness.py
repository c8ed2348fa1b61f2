"""Benchmarks through lm-eval: our questions in, our samples out.

lm-eval builds the requests and counts the answers; the model stays in memory and is asked by `likelihood`. Nothing is
fetched, cached or written. Each trap of lm-eval 0.4.13 that touches this has its answer here:
    a model of NaN scores 0.552 on PubMedQA            non-finite log-likelihoods are refused
    a context over the model's length is cut, unsaid   counted in `Sample.truncated`
    `add_bos_token` does nothing without a template    the token is put first by us
    a cache keyed without the model's weights          none is used
    `simple_evaluate` collects pip and GPU lists       `evaluate` does not
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence

from datasets import Dataset, DatasetDict
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from transformers import PreTrainedModel

from domainlm.eval.benchmarks import PROMPT_VERSION, Benchmark, Question, prompt
from domainlm.eval.likelihood import Branches, score_branches
from domainlm.eval.models import Encoder
from domainlm.eval.samples import DECIMALS, Sample

Progress = Callable[[int, int], None]  # rows done, rows in all


def ask(
    model: PreTrainedModel,
    encoder: Encoder,
    benchmark: Benchmark,
    questions: Sequence[Question],
    *,
    context_tokens: int,
    batch_size: int,
    progress: Progress,
) -> tuple[Sample, ...]:
    """Ask the first `benchmark.limit` questions, through lm-eval, in the order of the file."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # a line a truncated context; we count them instead
    asked = list(questions[: benchmark.limit])
    prefix = (encoder.prefix_id,) if benchmark.bos else ()
    lm = InMemoryLM(
        model, encoder, prefix=prefix, context_tokens=context_tokens, batch_size=batch_size, progress=progress
    )
    results = evaluate(lm=lm, task_dict={"tasks": {benchmark.name: _task(benchmark, asked)}}, bootstrap_iters=0)
    if results is None:
        raise RuntimeError("lm-eval returned nothing: run the evaluation in a single process, not under torchrun.")
    rows = results["samples"][benchmark.name]
    return tuple(_sample(row, question, lm) for row, question in zip(rows, asked, strict=True))


class InMemoryLM(LM):  # type: ignore[misc]  # lm-eval ships no types
    """A loaded model as lm-eval asks it. Requests that share a context share its computation."""

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: Encoder,
        *,
        prefix: tuple[int, ...],
        context_tokens: int,
        batch_size: int,
        progress: Progress,
    ) -> None:
        super().__init__()
        self.truncated_contexts: set[str] = set()
        self._model = model
        self._encoder = encoder
        self._prefix = prefix
        self._context_tokens = context_tokens
        self._batch_size = batch_size
        self._progress = progress

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Log-likelihood (nats) of each request's continuation. Whether it is the greedy one is not worked out."""
        pairs = self._encode([request.args for request in requests])
        branches: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
        for position, (context, continuation) in enumerate(pairs):
            branches.setdefault(context, []).append((position, continuation))
        scores = [math.nan] * len(requests)
        # Longest first: a batch that does not fit in memory fails at once, and rows of a batch are of one length.
        contexts = sorted(branches, key=lambda context: (-len(context), context))
        for start in range(0, len(contexts), self._batch_size):
            batch = contexts[start : start + self._batch_size]
            rows = [Branches(context, tuple(tokens for _, tokens in branches[context])) for context in batch]
            for context, row_scores in zip(batch, score_branches(self._model, rows), strict=True):
                for (position, _), score in zip(branches[context], row_scores, strict=True):
                    scores[position] = score
            self._progress(start + len(batch), len(contexts))
        return [(score, False) for score in scores]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Not here: see `domainlm.eval.bits_per_byte`."""
        raise NotImplementedError("bits per byte of running text is measured by domainlm.eval.bits_per_byte")

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Not here: every form of benchmark is scored by log-likelihood."""
        raise NotImplementedError("no benchmark form generates text")

    def _encode(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Token ids of each (context, continuation).

        A context is cut from the left to what fits with its longest continuation: lm-eval cuts for each by itself, so
        that options of a question are judged after different contexts.
        """
        wholes = self._encoder.encode([context + continuation for context, continuation in pairs])
        texts = list(dict.fromkeys(context for context, _ in pairs))
        heads = dict(zip(texts, self._encoder.encode(texts), strict=True))
        tails = [_tail(pair, heads[pair[0]], whole) for pair, whole in zip(pairs, wholes, strict=True)]
        longest: dict[str, int] = {}
        for (context, _), tail in zip(pairs, tails, strict=True):
            longest[context] = max(longest.get(context, 0), len(tail))
        contexts = {context: self._fit(context, heads[context], longest[context]) for context in texts}
        return [(contexts[context], tail) for (context, _), tail in zip(pairs, tails, strict=True)]

    def _fit(self, context: str, head: Sequence[int], num_continuation: int) -> tuple[int, ...]:
        """The context's last tokens that fit; the last token of a continuation is predicted but never read."""
        room = self._context_tokens - num_continuation + 1
        if room < 1:
            raise ValueError(
                f"an option after {context[-40:]!r} has {num_continuation} tokens, more than {self._context_tokens}. "
                "Raise `context_tokens`, or leave this benchmark out."
            )
        full = (*self._prefix, *head)
        if len(full) > room:
            self.truncated_contexts.add(context)
        return full[-room:]


def _tail(pair: tuple[str, str], head: Sequence[int], whole: Sequence[int]) -> tuple[int, ...]:
    """Tokens of the continuation, given those of the context and of both together."""
    if list(whole[: len(head)]) != list(head) or len(whole) == len(head):
        raise ValueError(
            f"the tokenizer joins {pair[0][-20:]!r} and {pair[1]!r} into one token, so the option cannot be scored by "
            "itself. It needs a pre-tokenizer that splits before a space."
        )
    return tuple(whole[len(head) :])


def _task(benchmark: Benchmark, questions: Sequence[Question]) -> ConfigurableTask:
    """A script-less lm-eval task over questions in memory: no download, no cache, no template language."""
    prompts = [prompt(benchmark, question) for question in questions]
    rows = [
        {"text": p.text, "continuations": list(p.continuations), "answer": question.answer}
        for p, question in zip(prompts, questions, strict=True)
    ]
    return ConfigurableTask(
        config={
            "task": benchmark.name,
            "custom_dataset": lambda **_: DatasetDict({"test": Dataset.from_list(rows)}),
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": lambda row: row["text"],
            "doc_to_choice": lambda row: row["continuations"],
            "doc_to_target": lambda row: row["answer"],
            "target_delimiter": " ",
            "num_fewshot": 0,
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            "metadata": {"version": PROMPT_VERSION},
        }
    )


def _sample(row: Mapping[str, object], question: Question, lm: InMemoryLM) -> Sample:
    arguments: Sequence[tuple[str, str]] = row["arguments"]  # type: ignore[assignment]
    responses: Sequence[tuple[float, bool]] = row["filtered_resps"]  # type: ignore[assignment]
    likelihoods = tuple(round(float(score), DECIMALS) for score, _ in responses)
    if not all(map(math.isfinite, likelihoods)):
        raise ValueError(
            f"question {question.question_id}: log-likelihoods are {likelihoods}. The model's weights or activations "
            "are not finite; lm-eval would have scored it all the same. Look at the training loss."
        )
    choice = likelihoods.index(max(likelihoods))
    return Sample(
        question_id=question.question_id,
        log_likelihoods=likelihoods,
        option_bytes=tuple(len(continuation.encode()) for _, continuation in arguments),
        choice=choice,
        answer=question.answer,
        correct=choice == question.answer,
        truncated=arguments[0][0] in lm.truncated_contexts,
    )
