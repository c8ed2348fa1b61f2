"""Benchmarks: from a JSONL file of one of the forms below to checked `Question`s and to the prompts that ask them.

In: a `Benchmark` (an entry of the recipe) and its file, one JSON object a line.
    medqa      sent1 (+ sent2), ending0, ending1, ..., label (index of the answer), id
    pubmedqa   pmid, QUESTION, CONTEXTS (list), final_decision ("yes", "no" or "maybe")
Out: `load_questions` (read by decontamination too) and `prompt` (read by the harness).

To add a form, add one entry to `FORMS`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

PROMPT_VERSION = 1  # raise when a prompt's text changes: scores of different versions are never compared
LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Benchmark:
    """Benchmark"""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "use_attribute_docstrings": True,
        "title": "Benchmark",
    }

    name: str
    """Name in scores, file names and reports: lower-case letters, digits, `_`, `-` and `.`."""
    form: Literal["medqa", "pubmedqa"]
    """How the file's lines are read: `medqa` (sent1, ending0.., label) or `pubmedqa` (QUESTION, CONTEXTS, ...)."""
    path: str
    """JSONL file of the questions, one a line."""
    sha256: str | None = field(default=None, metadata={"title": "SHA-256"})
    """Digest that the file must have; a file with another one is refused. Null trusts the file as it is."""
    style: Literal["cloze", "letters"] = "cloze"
    """`cloze` scores the text of each option, `letters` shows the options and scores A, B, C, D (medqa only)."""
    num_fewshot: int = field(default=0, metadata={"title": "Few-shot examples"})
    """Solved examples before each question. Only 0 for now: examples need a file of their own."""
    limit: int | None = None
    """Ask only the first so many questions; null asks all."""
    bos: bool = field(default=True, metadata={"title": "BOS token"})
    """Put the tokenizer's beginning-of-sequence token first, as documents have it in training."""

    def __post_init__(self) -> None:
        """Refuse what would be ignored or would collide on disk."""
        allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_-.")
        if not self.name or self.name.startswith(".") or not set(self.name) <= allowed:
            raise ValueError(f"benchmark name {self.name!r}: use lower-case letters, digits, '_', '-' and '.'")
        if self.form not in FORMS:
            raise ValueError(f"benchmark {self.name}: no form {self.form!r}, there are {', '.join(FORMS)}.")
        if self.style not in FORMS[self.form].styles:
            raise ValueError(
                f"benchmark {self.name}: form {self.form} cannot be asked with style {self.style!r}. "
                f"Choose from: {', '.join(FORMS[self.form].styles)}."
            )
        if self.num_fewshot != 0:
            raise ValueError(
                f"benchmark {self.name}: num_fewshot is {self.num_fewshot}, only 0 works. Examples drawn from the "
                "test file would show a question its own answer (lm-evaluation-harness #4145)."
            )
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"benchmark {self.name}: limit is {self.limit}. Use a positive number, or null for all.")

    def protocol(self, file_sha256: str) -> str:
        """Digest of all that decides what is asked: two scores are comparable only if it is the same."""
        asked = [self.form, self.style, self.num_fewshot, self.limit, self.bos, PROMPT_VERSION, file_sha256]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


@dataclass(frozen=True)
class Question:
    """One item of a benchmark; `answer` is an index into `options`."""

    question_id: str
    question: str
    context: str
    options: tuple[str, ...]
    answer: int
    pmid: str | None = None


@dataclass(frozen=True)
class Prompt:
    """What the model reads, and the continuations that are scored after it and a space."""

    text: str
    continuations: tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """How one file form is read, the styles it can be asked in, and the options if all questions share them."""

    read: Callable[[Mapping[str, object], str], Question]
    styles: tuple[str, ...]
    fixed_options: tuple[str, ...] | None = None


def load_questions(benchmark: Benchmark, path: Path | None = None) -> list[Question]:
    """Read and check every question of a benchmark (`limit` is left to the harness).

    `path` stands in for `benchmark.path`. Raises ValueError for a changed file, a malformed line or a duplicate id.
    """
    file = Path(benchmark.path) if path is None else path
    file_digest(benchmark, file)
    questions: dict[str, Question] = {}
    for place, row in _rows(benchmark, file):
        try:
            question = FORMS[benchmark.form].read(row, f"line-{place.rpartition(':')[2]}")
        except ValueError as error:
            raise ValueError(f"{place}: {error} (benchmark {benchmark.name}, form {benchmark.form})") from error
        if question.question_id in questions:
            raise ValueError(
                f"{place}: question id {question.question_id!r} stands twice in this file. Ids must differ."
            )
        questions[question.question_id] = question
    if not questions:
        raise ValueError(f"{file} holds no question. Benchmark {benchmark.name} needs at least one line.")
    return list(questions.values())


def file_digest(benchmark: Benchmark, path: Path | None = None) -> str:
    """Return the file's sha256; raise if the recipe pins another one."""
    file = Path(benchmark.path) if path is None else path
    if not file.is_file():
        raise FileNotFoundError(f"benchmark {benchmark.name}: no file at {file}. Correct `path` in the recipe.")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if benchmark.sha256 is not None and found != benchmark.sha256:
        raise ValueError(
            f"benchmark {benchmark.name}: found sha256 {found} in {file}, the recipe pins {benchmark.sha256}. "
            "Restore the file, or pin the new digest: its scores are not comparable with earlier ones."
        )
    return found


def prompt(benchmark: Benchmark, question: Question) -> Prompt:
    """One question in the benchmark's style."""
    lead = f"Abstract: {question.context}\n" if question.context else ""
    if benchmark.style == "letters":
        letters = tuple(LETTERS[: len(question.options)])
        shown = "".join(f"{letter}. {option}\n" for letter, option in zip(letters, question.options, strict=True))
        return Prompt(f"{lead}Question: {question.question}\n{shown}Answer:", letters)
    return Prompt(f"{lead}Question: {question.question}\nAnswer:", question.options)


def option_label(benchmark: Benchmark, option: int) -> str:
    """What to call an option that questions share: "yes", "B", or "option 2"."""
    if benchmark.style == "letters":
        return LETTERS[option]
    fixed = FORMS[benchmark.form].fixed_options
    return f"option {option + 1}" if fixed is None else fixed[option]


def _rows(benchmark: Benchmark, file: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield ("file:line", object) of each line that is not blank."""
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        place = f"{file}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{place}: not JSON ({error}). Benchmark {benchmark.name} needs one object a line."
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{place}: found a JSON {type(row).__name__}, need an object (benchmark {benchmark.name})")
        yield place, row


def _read_medqa(row: Mapping[str, object], line_id: str) -> Question:
    endings = [f"ending{n}" for n in range(len(LETTERS)) if f"ending{n}" in row]
    if len(endings) < 2 or endings != [f"ending{n}" for n in range(len(endings))]:
        raise ValueError(f"found the options {endings or 'none'}, need ending0, ending1, ... without a gap")
    label = row.get("label")
    if type(label) is not int or not 0 <= label < len(endings):
        raise ValueError(f"`label` is {label!r}, need a whole number from 0 to {len(endings) - 1}")
    second = row.get("sent2", "")
    if not isinstance(second, str):
        raise ValueError(f"`sent2` is {second!r}, need text or nothing")
    return Question(
        question_id=_text(row, "id") if "id" in row else line_id,
        question=f"{_text(row, 'sent1')} {second}".strip(),
        context="",
        options=tuple(_text(row, ending) for ending in endings),
        answer=label,
    )


def _read_pubmedqa(row: Mapping[str, object], line_id: str) -> Question:
    contexts = row.get("CONTEXTS")
    if not isinstance(contexts, list) or not contexts or not all(isinstance(part, str) for part in contexts):
        raise ValueError(f"`CONTEXTS` is {str(contexts)[:60]!r}, need a list of texts")
    decision = row.get("final_decision")
    if decision not in PUBMEDQA_OPTIONS:
        raise ValueError(f"`final_decision` is {decision!r}, need one of {', '.join(PUBMEDQA_OPTIONS)}")
    pmid = _text(row, "pmid") if "pmid" in row else None
    return Question(
        question_id=pmid or line_id,
        question=_text(row, "QUESTION"),
        context="\n".join(contexts),
        options=PUBMEDQA_OPTIONS,
        answer=PUBMEDQA_OPTIONS.index(str(decision)),
        pmid=pmid,
    )


def _text(row: Mapping[str, object], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{column}` is {value!r}, need text that is not empty")
    return value


PUBMEDQA_OPTIONS = ("yes", "no", "maybe")
FORMS: Mapping[str, Form] = {
    "medqa": Form(read=_read_medqa, styles=("cloze", "letters")),
    "pubmedqa": Form(read=_read_pubmedqa, styles=("cloze",), fixed_options=PUBMEDQA_OPTIONS),
}
