import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from domainlm.eval.statistics import Comparison
from domainlm.tasks.publish import PublishConfig, publish
from domainlm.tasks.report.curves import span, ticks
from domainlm.tasks.report.documents import Fate, Funnel, funnels
from domainlm.tasks.report.facts import gather
from domainlm.tasks.report.lineage import Link, Origin, draw, reduced
from domainlm.tasks.report.pages import (
    cell,
    data_sheet,
    derived_license,
    duration,
    model_card,
    report_page,
    short,
    signed,
)
from domainlm.tasks.report.training import Mark, marks_of
from domainlm.tasks.report.verdict import outcome
from domainlm.tasks.store import Sealed, Store

CONFIG = PublishConfig(name="leaflets-33k", description="A model of invented leaflets.")


def inputs(build):
    return {name: sealed.part() for name, sealed in build.stages.items()}


@pytest.fixture(scope="module")
def published(build, tmp_path_factory) -> Sealed:
    store = Store(tmp_path_factory.mktemp("published"))
    return publish.build(store, CONFIG, inputs(build), build.runtime, label="leaflets")


@pytest.fixture
def report(build):
    return gather(build.stages, name=CONFIG.name, description=CONFIG.description)


def test_the_published_model_loads_and_is_the_trained_one(build, published):
    model = AutoModelForCausalLM.from_pretrained(published.path / "model", local_files_only=True)
    assert model.num_parameters() == build.stages["train"].manifest.counts["parameters"]
    assert AutoTokenizer.from_pretrained(published.path / "model").eos_token == "<|end|>"
    weights = "model/model.safetensors"
    assert (published.path / weights).read_bytes() == (build.stages["train"].path / weights).read_bytes()


def test_the_papers_are_content_and_what_tells_times_is_a_record(published):
    outputs = {output.path: output.record for output in published.manifest.outputs}
    assert {path for path, record in outputs.items() if record} == {"report.html", "report.json"}
    assert {"MODEL_CARD.md", "DATA_SHEET.md", "model/README.md"} < {
        path for path, record in outputs.items() if not record
    }


def test_publishing_again_gives_the_same_content_for_other_times(build, published, tmp_path):
    before = gather(build.stages, name=CONFIG.name, description=CONFIG.description)
    lineage = tuple(dataclasses.replace(link, seconds=1e6) for link in before.lineage)
    later = dataclasses.replace(before, lineage=lineage, made=dataclasses.replace(before.made, started="2031-01-01"))
    assert report_page(later) != report_page(before)
    assert model_card(later, languages=("en",), license=None) == (published.path / "MODEL_CARD.md").read_text()
    assert data_sheet(later) == (published.path / "DATA_SHEET.md").read_text()
    shuffled = dict(reversed(inputs(build).items()))
    again = publish.build(Store(tmp_path), CONFIG, shuffled, build.runtime, label="leaflets")
    assert again.manifest.digest == published.manifest.digest


def test_the_front_matter_of_the_card_is_yaml_that_the_hub_reads(published):
    _, front, body = (published.path / "MODEL_CARD.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["license"] == "other"  # CC-BY-4.0 and MIT
    assert fields["language"] == ["en"]
    assert fields["library_name"] == "transformers"
    assert "CC-BY-4.0 (" in body
    assert "leaflets-33k" in body


def test_the_report_needs_nothing_from_outside_and_runs_no_script(published):
    page = (published.path / "report.html").read_text()
    found = Tags()
    found.feed(page)
    assert not found.names & {"script", "link", "iframe", "img", "object", "embed"}
    assert all(value.startswith("#") for value in found.references)
    assert "url(" not in page
    assert "@import" not in page
    assert not found.open


class Tags(HTMLParser):
    """The tags of a page, what they refer to, and which of them were never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.references: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.references += [value for name, value in attrs if name in ("href", "src", "action") and value]
        if tag not in ("meta", "br", "hr", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_verdict_comes_first_with_its_numbers(published):
    page = (published.path / "report.html").read_text()
    facts = json.loads((published.path / "report.json").read_text())
    assert facts["verdict"]["base"] == "untrained twin"
    assert facts["verdict"]["text"] == "better"
    text = next(one for one in facts["verdict"]["comparisons"] if one["benchmark"] == "held_out/leaflets")
    assert text["verdict"] == "better"
    assert page.index('class="verdict') < page.index('id="scores"')
    assert f"{text['candidate']:.3f}" in page[page.index('class="verdict') : page.index('id="scores"')]


def test_every_document_that_was_read_is_in_the_funnel_with_its_reason(report):
    leaflets = next(funnel for funnel in report.documents if funnel.source == "leaflets")
    assert leaflets.entered == 266
    reasons = {(fate.stage, fate.reason): fate.documents for fate in leaflets.fates}
    assert reasons[("acquire", "dead_letters")] == 1
    assert reasons[("filter", "length")] == 1
    assert reasons[("deduplicate", "exact_duplicate")] == 2
    assert reasons[("decontaminate", "contaminated")] == 1
    assert leaflets.kept + sum(reasons.values()) == 266


def test_directories_that_do_not_follow_from_each_other_are_refused(build):
    other = dict(build.stages)
    other["filter.leaflets"] = build.stages["filter.plain"]
    with pytest.raises(ValueError, match=r"source 'leaflets': of 266 documents 1 have no fate"):
        funnels(other)


def test_the_data_sheet_counts_licences_drops_and_tokens(build, published):
    sheet = (published.path / "DATA_SHEET.md").read_text()
    tokens = build.stages["tokenize.plain"].manifest.counts["tokens"]
    kept = build.stages["decontaminate.plain"].manifest.fates["kept"]
    assert f"| MIT | {kept:,} | {tokens:,} |" in sheet
    assert "| exact duplicate | deduplicate | 2 | 0 | 2 |" in sheet
    assert "| leaflets | email | 1 |" in sheet
    assert re.search(r"\| deduplicate-[0-9a-f]{8} \| [0-9a-f]{64} \| [0-9a-f]{64} \|", sheet)


def test_text_from_outside_cannot_write_into_the_pages(report):
    hostile = "<script>alert(1)</script> | [x](http://e.test) `a`"
    changed = dataclasses.replace(
        report,
        name=hostile,
        licences=tuple(dataclasses.replace(row, evidence=hostile) for row in report.licences),
    )
    assert "<script" not in report_page(changed)
    card = model_card(changed, languages=("en",), license=None)
    assert "<script" not in card
    assert "](http" not in card.replace("\\]", "")


@pytest.mark.parametrize(
    ("said", "one_word"),
    [
        (["better", "cannot tell"], "better"),
        (["worse", "cannot tell"], "worse"),
        (["better", "worse"], "mixed"),
        (["cannot tell"], "cannot tell"),
        ([], "not asked"),
    ],
)
def test_a_gain_and_a_loss_do_not_cancel_out(said, one_word):
    comparisons = [Comparison("b", "accuracy", 0, 0, 0, 0, 0, 1, 1, 0, None, verdict) for verdict in said]
    assert outcome(comparisons) == one_word


def test_arrows_that_follow_from_others_are_left_out():
    parents = {"a": frozenset(), "b": frozenset("a"), "c": frozenset("ab"), "d": frozenset("abc")}
    assert reduced(parents) == {"a": frozenset(), "b": frozenset("a"), "c": frozenset("b"), "d": frozenset("c")}


def test_the_picture_connects_what_was_reused_to_a_stage_that_was_built_again_to_the_same_bytes():
    def link(name: str, directory: str, *origins: str) -> Link:
        return Link(name, directory, "0" * 64, "0" * 64, 1, 0.0, tuple(Origin(one, one, "0") for one in origins))

    again = link("filter.s", "filter-s-22222222", "source s")
    reused = link("deduplicate", "deduplicate-33333333", "filter-s-11111111/kept")
    assert draw((again, reused)).count("<path") == 1


def test_a_funnel_tells_what_was_dropped_from_what_was_held_out():
    funnel = Funnel("s", 10, (Fate("decontaminate", "contaminated", 2), Fate("decontaminate", "held_out", 3)), 5)
    assert (funnel.left_in("decontaminate"), funnel.held_out) == (2, 3)


def test_numbers_are_written_for_people():
    assert [short(n) for n in (999, 1_490_000, 5_900_000)] == ["999", "1.49M", "5.9M"]
    assert [duration(s) for s in (3.21, 192, 7_320)] == ["3.2 s", "3 min 12 s", "2 h 02 min"]
    assert [signed(v) for v in (-1.25, 0.0, 3.0)] == ["\N{MINUS SIGN}1.2", "0.0", "+3.0"]
    assert cell("a|b\nc<d>") == "a\\|b c&lt;d&gt;"
    assert [derived_license(names) for names in (["MIT"], ["MIT", "CC0-1.0"], ["LicenseRef-x"])] == [
        "mit",
        "other",
        "other",
    ]


def test_the_scale_of_a_loss_that_does_not_move_is_still_a_scale():
    for values in ((2.0, 2.0), (), (0.0, 3e-4), (1.0, 180_000.0)):
        for from_zero in (False, True):
            low, high = span(values, from_zero=from_zero)
            assert all(low <= value <= high for value in values)
            assert len(ticks(low, high)) >= 2 or values == (2.0, 2.0)
            assert all(0 <= height <= 1 for _, height in ticks(low, high))


def test_what_happened_on_the_way_is_told_with_its_reason():
    events = [
        {"event": "start", "step": 0, "num_ranks": 2},
        {"event": "crash", "step": 40, "what": "killed"},
        {"event": "resume", "step": 32, "num_ranks": 1},
        {"event": "skip", "step": 50},
        {"event": "spike", "step": 77, "loss": 9.5, "threshold": 4.0, "to_step": 70, "skipped_steps": [75, 76, 77],
         "num_documents": 3},
        {"event": "resume", "step": 80, "num_ranks": 4},
    ]  # fmt: skip
    assert list(marks_of(events, 100)) == [
        Mark("restart", 3200, "crashed; went on from step 32 with 1 rank"),
        Mark("skip", 5000, "step 50 was not finite and touched no parameter"),
        Mark("rollback", 7700,
             "loss 9.50 at step 77, above 4.00: back to step 70, steps 75 to 77 left out, 3 documents named"),
        Mark("restart", 8000, "ended without a word; went on from step 80 with 4 ranks"),
    ]  # fmt: skip


def test_the_report_shows_how_held_out_text_fared_and_where_the_time_went(published, report):
    page = (published.path / "report.html").read_text()
    assert set(report.training.held_out) == {"leaflets", "plain"}
    assert len(report.training.held_out["plain"]) == 7
    assert page.count('<svg class="curve"') == 4
    assert page.count('class="dots line') == 2
    assert sum(part.share for part in report.training.spent) == pytest.approx(1, abs=0.02)
    assert "held out" in {part.name for part in report.training.spent}
    assert f"{100 * report.training.goodput:.1f} %" in page
