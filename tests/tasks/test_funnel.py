"""The data funnel: every step balances, in numbers, in the picture and in Markdown."""

import re
from xml.etree import ElementTree

import pytest

from domainlm.tasks.report.documents import CURATION, Fate, Funnel
from domainlm.tasks.report.funnel import draw_funnel, funnel_markdown, steps

TRIALS = Funnel(
    "trials<&>",
    1_357,
    (
        Fate("acquire", "dead_letters", 7),
        Fate("filter", "license", 500),
        Fate("filter", "gopher_quality", 40),
        Fate("deduplicate", "near_duplicate", 10),
        Fate("decontaminate", "contaminated", 5),
        Fate("decontaminate", "held_out", 20),
    ),
    775,
)
PAGES = Funnel("pages", 200, tuple(Fate("filter", f"rule_{n}", 10 - n) for n in range(8)), 148)


def test_each_step_balances_and_begins_with_what_went_on_before() -> None:
    found = steps(TRIALS)
    assert tuple(step.stage for step in found) == CURATION
    assert [step.entered for step in found] == [1_357, 1_350, 810, 800]
    assert [step.went_on for step in found] == [1_350, 810, 800, 775]
    assert all(step.entered == step.went_on + sum(count for _, count in step.left) for step in found)
    assert found[1].left == (("license", 500), ("gopher_quality", 40))


def test_a_funnel_that_does_not_balance_is_refused() -> None:
    with pytest.raises(ValueError, match="1,357 documents go through, and 775 are kept"):
        steps(Funnel("s", 1_357, (), 775))


def test_the_picture_is_xml_with_a_band_a_source_and_every_total() -> None:
    root = ElementTree.fromstring(draw_funnel([TRIALS, PAGES]))
    titles = [polygon.findtext("title") for polygon in root.iter("polygon")]
    assert titles == ["trials<&>: 1,357 → 1,350 → 810 → 800 → 775", "pages: 200 → 200 → 148 → 148 → 148"]
    words = [text.text or "" for text in root.iter("text") if "fill" not in text.attrib]  # no name on a band
    assert [words[n] for n in range(1, 10, 2)] == ["1,557", "1,550", "958", "948", "923"]
    assert "592 left" in words
    assert "18 for 4 more reasons" in words  # of ten reasons in `filter` six are named
    assert words.count("500 license") == 1


def test_a_band_is_as_high_as_its_share_of_what_entered() -> None:
    root = ElementTree.fromstring(draw_funnel([Funnel("half", 100, (Fate("filter", "length", 50),), 50)]))
    points = [tuple(map(float, point.split(","))) for point in next(root.iter("polygon")).attrib["points"].split()]
    heights = [low[1] - high[1] for high, low in zip(points[:5], reversed(points[5:]), strict=True)]
    assert heights == pytest.approx([170, 170, 85, 85, 85])


def test_the_markdown_accounts_for_every_document() -> None:
    text = funnel_markdown([TRIALS, PAGES])
    rows = [line for line in text.splitlines() if line.startswith(("| trials", "| pages"))]
    assert len(rows) == 2 * len(CURATION)
    assert "| 1,350 | 810 |" in rows[1]
    assert rows[1].endswith("| license 500, gopher quality 40 |")
    assert [len(re.findall("█", row)) for row in rows[:4]] == [16, 10, 9, 9]
    assert text.endswith("1,557 entered = 923 kept + 634 that left, each with its reason.")


def test_without_documents_there_is_no_picture() -> None:
    assert draw_funnel([]) == ""
