"""The published quality rules say of every text what datatrove's own blocks say of it, given our word tokenizer."""

import gzip
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datatrove.data import Document as TroveDocument
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter
from hypothesis import example, given
from hypothesis import strategies as st

from domainlm.tasks.quality import kernels
from domainlm.tasks.quality.characters import character_classes
from domainlm.tasks.quality.counts import count
from domainlm.tasks.quality.kernels import FOLDER, code_folder
from domainlm.tasks.quality.measures import SCHEMA, measure
from domainlm.tasks.quality_rules import C4Rule, FineWebRule, GopherQualityRule, GopherRepetitionRule, MeasuredRule
from domainlm.tasks.words import WORDS, RegexWordTokenizer

PUBLISHED: dict[str, tuple[MeasuredRule, BaseFilter]] = {
    "gopher_quality": (
        GopherQualityRule(min_alphabetic=0.8),
        GopherQualityFilter(min_doc_words=None, max_doc_words=None, language=WORDS),
    ),
    "gopher_repetition": (
        GopherRepetitionRule(duplicate_ngrams=((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))),
        GopherRepetitionFilter(language=WORDS),
    ),
    "c4": (C4Rule(min_sentences=5, curly_brackets=False), C4QualityFilter(language=WORDS)),
    "c4, any line": (
        C4Rule(min_sentences=2, curly_brackets=False, terminal_punctuation=False),
        C4QualityFilter(min_num_sentences=2, filter_no_terminal_punct=False, language=WORDS),
    ),
    "fineweb": (
        FineWebRule(min_finished_lines=0.12, max_short_lines=0.67, max_duplicate_chars=0.01),
        FineWebQualityFilter(language=WORDS),
    ),
}
PIECES = st.sampled_from(
    [
        *("the", "of", "to", "a", "b", "ab", "c", "heart", "β-blocker", "patient's", "x_y", "_", "١٢٣", "naïve", "Ⅷ"),
        *("1,200.5", "0.05", "5.", "²", "1.5mg", "e\u0301", "\U0001d4b3", "\U0001f600", "\ufeff", "\u200b", "\x00"),
        *(
            ".",
            "...",
            "…",
            "....",
            "!",
            "?",
            "\u3002",
            '."',
            ".)",
            "(",
            "[",
            "]",
            "[12]",
            "[edit]",
            "[citation needed]",
        ),
        *("[[1]edit]", "{", "}", "#", "##", "-", "•", "— ", "'", "\u2019s", "\u2011", "·5", '"', "“A", "(B", " Z"),
        *("\n", "\n\n", "\n\n\n", "\r\n", "\r", "\x0b", "\x1c", "\x85", "\u2028", " ", "  ", "\t", "\xa0", "\u3000"),
        *(
            "lorem ipsum",
            "Lorem Ipsum",
            "JavaScript",
            "java[1]script",
            "terms of use",
            "Privacy Policy",
            "uses coo\u212aies",
        ),
        *("use cookies", "İ", "javascrİpt", "It is safe. Was it? Yes! (No.) ", "w" * 1_001, "x" * 31),
        *("one two three four five six seven eight nine ten. ", "A line of thirty characters ab", " end.", ".\n- "),
    ]
)
JOINED = st.lists(PIECES, max_size=60).flatmap(
    lambda pieces: st.sampled_from(["".join(pieces), " ".join(pieces), "\n".join(pieces)])
)
REPEATED = st.tuples(JOINED, st.integers(1, 6)).map(lambda given: given[0] * given[1])
SMALL_ALPHABET = st.text(alphabet="ab .\n", max_size=120)
TEXTS = st.one_of(JOINED, REPEATED, SMALL_ALPHABET, st.text(max_size=80))


def ours(texts: Sequence[str], rule: MeasuredRule) -> list[bool]:
    """Whether the rule keeps each text."""
    table = pa.table(list(measure(pa.array(texts, pa.string()))), schema=SCHEMA)
    keep = np.ones(len(texts), dtype=bool)
    for opinion in rule.opinions(table):
        keep[opinion.objects] = False
    return keep.tolist()


def theirs(text: str, block: BaseFilter) -> bool:
    """Whether the block keeps a text; where there is no word it would divide by zero."""
    if not text.strip():
        return False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|invalid value", RuntimeWarning)
        return block.filter(TroveDocument(text=text, id="")) is True


@pytest.mark.parametrize("name", PUBLISHED)
@given(texts=st.lists(TEXTS, min_size=1, max_size=6))
@example(texts=["ab c d e f g a bc d e f g", "a b c d e f g h a b c d e f g h " * 3])  # joined by nothing, the same
@example(texts=["\n\nFirst line\n\nFirst line\n", "\nOne\n", "- a\n- b\n"])
@example(texts=["[1] [2] [3]", "Foo bar baz.[12]", "Foo bar baz. [12]", "...", "", " \n "])
def test_a_published_rule_keeps_what_datatroves_block_keeps(name: str, texts: list[str]) -> None:
    rule, block = PUBLISHED[name]
    assert ours(texts, rule) == [theirs(text, block) for text in texts]


@given(text=TEXTS, n=st.sampled_from([2, 3, 4, 5, 6, 10]), share=st.integers(1, 30).map(lambda k: k / 60))
def test_each_ngram_threshold_decides_as_in_datatroves_block(text: str, n: int, share: float) -> None:
    top, duplicate = (((n, share),), ()) if n < 5 else ((), ((n, share),))
    limits = {"max_duplicate_paragraphs": 1, "max_duplicate_lines": 1, "max_paragraph_chars": 1, "max_line_chars": 1}
    rule = GopherRepetitionRule.model_validate({**limits, "top_ngrams": top, "duplicate_ngrams": duplicate})
    none = {"dup_line_frac": None, "dup_para_frac": None, "dup_line_char_frac": None, "dup_para_char_frac": None}
    block = GopherRepetitionFilter(**none, top_n_grams=top, dup_n_grams=duplicate, language=WORDS)
    assert ours([text], rule) == [theirs(text, block)]


@given(text=TEXTS)
def test_the_kernel_finds_the_words_that_the_expression_finds(text: str) -> None:
    counts = count(pa.array([text]))
    words = RegexWordTokenizer().word_tokenize(text)
    assert counts["tokens"].tolist() == [len(words)]
    assert counts["counted_words"].tolist() == [sum(word[0].isalnum() for word in words)]
    assert counts["alphabetic"].tolist() == [sum(any(map(str.isalpha, word)) for word in words)]


@given(texts=st.lists(TEXTS, min_size=2, max_size=6))
def test_a_text_is_measured_the_same_in_any_batch(texts: list[str]) -> None:
    together = pa.table(list(measure(pa.array(texts, pa.string()))), schema=SCHEMA)
    apart = [pa.table(list(measure(pa.array([text], pa.string()))), schema=SCHEMA) for text in texts]
    assert together.to_pylist() == pa.concat_tables(apart).to_pylist()


def test_the_machine_code_of_a_kernel_is_not_taken_for_that_of_another_version(tmp_path: Path) -> None:
    """numba looks at the kernel's own file alone, and not at those of the kernels it calls."""
    sources = [tmp_path / "one.py", tmp_path / "two.py"]
    for path in sources:
        path.write_text("a = 1")
    before = code_folder(sources)
    assert code_folder(reversed(sources)) == before
    sources[1].write_text("a = 2")
    assert code_folder(sources) != before
    assert code_folder(Path(kernels.__file__).parents[1].rglob("*.py")) == FOLDER
    assert list(FOLDER.rglob("*count_texts*.nbi"))


def test_only_one_character_beyond_ascii_becomes_one_ascii_letter_in_lower_case() -> None:
    """What `lower_case` relies on: K (Kelvin), and İ, whose dot stays behind as a character of its own."""
    classes = character_classes()
    lowered = {chr(code): chr(code).lower() for code in range(128, len(classes))}
    assert {char: low for char, low in lowered.items() if any(one < "\x80" for one in low)} == {
        "\u0130": "i\u0307",
        "\u212a": "k",
    }


@pytest.mark.real
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_rule_agrees_with_datatroves_block_on_real_text(name: str, realdata: Path) -> None:
    files = ["biomed/pmc_rct-00", "biomed/medquad", "general/wikitext2_valid_test", "other/legal_edgar_contracts"]
    texts = []
    for file in files:
        with gzip.open(realdata / f"{file}.jsonl.gz", "rt") as lines:
            texts += [json.loads(line)["text"][:20_000] for _, line in zip(range(40), lines, strict=False)]
    rule, block = PUBLISHED[name]
    assert ours(texts, rule) == [theirs(text, block) for text in texts]
