"""Log-likelihoods of tokens under a Hugging Face causal model, without wasted work.

Shapes: B rows, C context tokens, O continuation tokens, T window tokens, K kept positions, V vocabulary.

`score_branches`: contexts with several continuations each; a context runs once and its key-value cache is shared by
its continuations, so four options of a long question cost about one question, not four. `score_windows`: plain text.
Rows are padded on the right and never attend to padding. Sort rows by length before batching.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

MAX_LOGITS = 2**26  # logits at once, 256 MiB in float32: a vocabulary of 128k would need gigabytes otherwise


@dataclass(frozen=True)
class Branches:
    """A context and the continuations that are scored after it, as token ids; none of them empty."""

    context: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Window:
    """A stretch of text as token ids, of which the last `num_scored` are scored given all that precede them."""

    tokens: tuple[int, ...]
    num_scored: int


@torch.inference_mode()
def score_branches(model: PreTrainedModel, rows: Sequence[Branches]) -> list[tuple[float, ...]]:
    """Sum of log-likelihoods (nats) of each continuation of each row."""
    if len(rows) > 1 and _slides(model, rows):
        return [score for row in rows for score in score_branches(model, [row])]
    lengths = [len(row.context) for row in rows]
    keep = sorted({length - 1 for length in lengths})
    branching = any(len(continuation) > 1 for row in rows for continuation in row.continuations)
    output = model(
        input_ids=_padded([row.context for row in rows], model.device),
        logits_to_keep=torch.tensor(keep, device=model.device),
        use_cache=branching,
    )
    last = torch.tensor([keep.index(length - 1) for length in lengths], device=model.device)
    logits: Tensor = output.logits[torch.arange(len(rows), device=model.device), last]  # (B, V)
    first = logits.float().log_softmax(-1).cpu()
    scores = [[float(first[n, c[0]]) for c in row.continuations] for n, row in enumerate(rows)]
    if branching:
        _add_rest(model, rows, output.past_key_values, scores)
    return [tuple(row) for row in scores]


@torch.inference_mode()
def score_windows(model: PreTrainedModel, rows: Sequence[Window]) -> list[float]:
    """Sum of log-likelihoods (nats) of the scored tokens of each row; splits the batch if its logits are too many."""
    width = max(len(row.tokens) for row in rows)
    num_rows = max(1, MAX_LOGITS // (width * int(model.config.vocab_size)))
    if len(rows) > num_rows:
        return [score for n in range(0, len(rows), num_rows) for score in score_windows(model, rows[n : n + num_rows])]
    tokens = _padded([row.tokens for row in rows], model.device)  # (B, T)
    logits: Tensor = model(input_ids=tokens[:, :-1], use_cache=False).logits  # (B, T - 1, V)
    losses = cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(len(rows), -1)
    ends = [len(row.tokens) - 1 for row in rows]
    return [
        -float(losses[n, end - row.num_scored : end].double().sum())
        for n, (row, end) in enumerate(zip(rows, ends, strict=True))
    ]


def _add_rest(model: PreTrainedModel, rows: Sequence[Branches], cache: object, scores: list[list[float]]) -> None:
    """Add the log-likelihoods of each continuation's second and later tokens, all branches in one batch."""
    branches = [
        (n, k, continuation)
        for n, row in enumerate(rows)
        for k, continuation in enumerate(row.continuations)
        if len(continuation) > 1
    ]
    row_of = torch.tensor([n for n, _, _ in branches], device=model.device)
    cache.batch_select_indices(row_of)  # type: ignore[attr-defined]  # (branches, C)
    inputs = _padded([continuation[:-1] for _, _, continuation in branches], model.device)  # (branches, O - 1)
    targets = _padded([continuation[1:] for _, _, continuation in branches], model.device)
    context_lengths = torch.tensor([len(row.context) for row in rows], device=model.device)[row_of]
    lengths = torch.tensor([len(continuation) - 1 for _, _, continuation in branches], device=model.device)
    steps = torch.arange(inputs.shape[1], device=model.device)
    slots = torch.arange(int(max(len(row.context) for row in rows)), device=model.device)
    real = torch.cat([slots < context_lengths[:, None], steps < lengths[:, None]], dim=1)
    logits: Tensor = model(
        input_ids=inputs,
        attention_mask=real.long(),
        position_ids=context_lengths[:, None] + steps,
        past_key_values=cache,
        use_cache=True,
    ).logits  # (branches, O - 1, V)
    losses = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    rest = -(losses.double() * (steps < lengths[:, None])).sum(1)
    for (n, k, _), score in zip(branches, rest.tolist(), strict=True):
        scores[n][k] += score


def _slides(model: PreTrainedModel, rows: Sequence[Branches]) -> bool:
    """Whether these rows outgrow a sliding attention window, in which padding would push out real tokens."""
    window = getattr(model.config, "sliding_window", None)
    longest = max(len(row.context) for row in rows) + max(len(c) for row in rows for c in row.continuations)
    return isinstance(window, int) and longest > window


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Token ids as one tensor, padded on the right with id 0."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
