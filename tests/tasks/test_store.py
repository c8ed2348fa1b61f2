"""The store and the stages: keys, sealed directories, balanced books, two builders, and a kill at any moment."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from domainlm.tasks.documents import Document, content_sha256, write_rows
from domainlm.tasks.manifest import Books, Manifest, NotCanonical, Part, UnbalancedBooks, canonical_json, outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.stage import Inputs, stage
from domainlm.tasks.store import NoRoom, Request, Store

INPUT = Part(Path("/anywhere"), ("a",), "1" * 64, 10, 3, "origin")


def request(**changes: object) -> Request:
    base = Request("filter", 1, "s", {"min_words": 5}, {"documents": INPUT})
    return replace(base, **changes)  # type: ignore[arg-type]


def documents(count: int) -> list[Document]:
    text = "text"
    digest = content_sha256(text)
    return [Document(f"s/{n}", text, "s", "MIT", "e", "u", None, digest, None, "{}") for n in range(count)]


def builder(kept: int, books: Books) -> Callable[[Path], Books]:
    def build(out: Path) -> Books:
        write_rows(out / "kept/00000.parquet", Document, documents(kept))
        return books

    return build


KEPT_3 = Books(entered={"documents": 3}, fates={"kept": 3})


def test_a_key_follows_from_stage_version_config_and_the_content_of_the_inputs_alone() -> None:
    key = request().key
    digests = f'{{"documents":"{INPUT.digest}"}}'
    identity = f'{{"config":{{"min_words":5}},"inputs":{digests},"stage":"filter","version":1}}'
    assert key == hashlib.sha256(identity.encode()).hexdigest()
    moved = replace(INPUT, root=Path("/elsewhere"), origin="another", rows=None, bytes=0)
    same = [request(inputs={"documents": moved}), request(label="other"), request(disk_bytes=9), request(resumes=True)]
    assert {other.key for other in same} == {key}
    changed = [
        request(stage="tokenize"),
        request(version=2),
        request(config={"min_words": 6}),
        request(config={"min_words": 5.0}),
        request(inputs={"documents": replace(INPUT, digest="2" * 64)}),
        request(inputs={"corpus": INPUT}),
    ]
    assert len({other.key for other in changed} | {key}) == 7


def test_the_order_of_a_config_changes_no_key() -> None:
    assert request(config={"a": 1, "b": [2, None]}).key == request(config={"b": [2, None], "a": 1}).key


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    words: int = 3


@stage(version=3)
def copy(config: Config, inputs: Inputs, out: Path, runtime: Runtime) -> Books:
    """A stage that writes as many documents as its config says."""
    write_rows(out / "kept/00000.parquet", Document, documents(config.words))
    return Books(entered={"made": config.words}, fates={"kept": config.words})


def test_the_runtime_changes_neither_key_nor_digest(tmp_path: Path) -> None:
    wide = Runtime(store=tmp_path / "b", workers=7, processes=4, device="cpu", microbatch_sequences=1)
    one = copy.build(Store(tmp_path / "a"), Config(), {}, Runtime(store=tmp_path / "a"))
    other = copy.build(Store(tmp_path / "b"), Config(), {}, wide, label="wide")
    assert one.manifest.key == other.manifest.key == copy.request(Config(), {}).key
    assert one.manifest.digest == other.manifest.digest
    assert one.manifest.version == 3
    assert (one.path.name[:5], other.path.name[:10]) == ("copy-", "copy-wide-")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Path("/x"), object(), {1, 2}, b"raw", {"a": [Path()]}])
def test_canonical_json_refuses_what_has_no_faithful_form(value: object) -> None:
    with pytest.raises(NotCanonical, match="cannot be part of a key"):
        canonical_json({"value": value})


def test_canonical_json_has_one_form() -> None:
    assert canonical_json({"b": "é", "a": [1, 0.1, None, True]}) == '{"a":[1,0.1,null,true],"b":"é"}'.encode()


@pytest.mark.parametrize(
    ("kept", "books", "message"),
    [
        (3, Books(entered={"documents": 2}, fates={"kept": 2}), "read 2 rows of 'documents', which has 3"),
        (3, Books(entered={"documents": 3}, fates={"kept": 2}), "took in 3 and accounts for 2"),
        (2, KEPT_3, r"says 3 kept, and kept/ holds 2 rows"),
        (4, KEPT_3, r"says 3 kept, and kept/ holds 4 rows"),
    ],
)
def test_books_that_do_not_balance_never_seal(store: Store, kept: int, books: Books, message: str) -> None:
    with pytest.raises(UnbalancedBooks, match=message):
        store.build(request(), builder(kept, books))
    assert store.sealed() == []
    assert store.find(request()) is None
    assert store.build(request(), builder(3, KEPT_3)).manifest.fates == {"kept": 3}


def test_a_sealed_directory_is_reused_read_only_and_says_what_it_is(store: Store) -> None:
    sealed = store.build(request(), builder(3, KEPT_3))
    again = store.build(request(), lambda out: pytest.fail("it was built again"))
    assert again == sealed
    assert sealed.path.name == f"filter-s-{request().key[:8]}"
    assert not (sealed.path / "kept/00000.parquet").stat().st_mode & 0o222
    manifest = Manifest.load(sealed.path / "manifest.json")
    assert manifest == sealed.manifest
    assert (manifest.licenses, manifest.entered) == ({"MIT": 3}, {"documents": 3})
    assert [(output.path, output.rows) for output in manifest.outputs] == [("kept/00000.parquet", 3)]
    assert str(store.root) not in json.dumps(manifest.config) + json.dumps([o.path for o in manifest.outputs])


def test_records_are_listed_but_do_not_decide_the_content_digest(tmp_path: Path) -> None:
    def build_with(log: str) -> Callable[[Path], Books]:
        def build(out: Path) -> Books:
            (out / "events.jsonl").write_text(log)
            write_rows(out / "kept/00000.parquet", Document, documents(3))
            return replace(KEPT_3, records=("events.jsonl",))

        return build

    first = Store(tmp_path / "a").build(request(), build_with("monday"))
    second = Store(tmp_path / "b").build(request(), build_with("tuesday"))
    assert first.manifest.digest == second.manifest.digest
    assert [(o.path, o.record) for o in first.manifest.outputs] == [
        ("events.jsonl", True),
        ("kept/00000.parquet", False),
    ]
    assert first.part().files == ("kept/00000.parquet",)


def test_one_changed_byte_or_name_changes_the_content_digest(tmp_path: Path) -> None:
    def build_with(name: str, content: bytes) -> Callable[[Path], Books]:
        def build(out: Path) -> Books:
            (out / name).write_bytes(content)
            return Books()

        return build

    variants = [("a", b"x"), ("a", b"y"), ("b", b"x")]
    digests = [
        Store(tmp_path / str(n)).build(request(), build_with(*v)).manifest.digest for n, v in enumerate(variants)
    ]
    assert len(set(digests)) == 3


def test_a_part_stands_for_its_own_files_only(store: Store) -> None:
    def build(out: Path) -> Books:
        for source in ("a", "ab"):
            write_rows(out / f"kept/{source}/00000.parquet", Document, documents(2))
        return Books(entered={"documents": 3, "more": 1}, fates={"kept": 4})

    part = store.build(request(), build).part("kept/a")
    assert (part.files, part.rows) == (("kept/a/00000.parquet",), 2)
    with pytest.raises(FileNotFoundError, match=r"nothing below 'kept/b'; it has \['kept'\]"):
        store.build(request(), build).part("kept/b")


def test_files_from_outside_are_known_by_name_and_bytes_and_not_by_their_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "a.txt").write_text("same")
    one, two = (outside(tmp_path / place, [tmp_path / place / "a.txt"], origin=place) for place in ("one", "two"))
    assert one.digest == two.digest
    (tmp_path / "two/a.txt").write_text("samE")
    assert outside(tmp_path / "two", [tmp_path / "two/a.txt"], origin="two").digest != one.digest


def test_without_room_nothing_is_started(store: Store) -> None:
    too_much = shutil.disk_usage(store.root.parent).total * 2
    with pytest.raises(NoRoom, match="Free some room, or give another store"):
        store.build(request(disk_bytes=too_much), lambda out: pytest.fail("it was started"))
    assert list(store.root.glob("filter*")) == []


BUILD = """
import sys, time
from pathlib import Path
from domainlm.tasks.manifest import Books
from domainlm.tasks.store import Request, Store

def build(out):
    (out / "half").write_text("half")
    time.sleep(60)

Store(Path(sys.argv[1])).build(Request("filter", 1, "s", {"min_words": 5}, {}, resumes=sys.argv[2] == "True"), build)
"""


@pytest.mark.parametrize("resumes", [True, False])
def test_killed_in_the_middle_the_same_key_resumes_or_begins_afresh(store: Store, resumes: bool) -> None:
    child = subprocess.Popen([sys.executable, "-c", BUILD, str(store.root), str(resumes)])
    deadline_s = time.monotonic() + 60
    while not list(store.root.glob("*.partial/half")) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    wanted = request(inputs={}, resumes=resumes)
    assert [path.name for path in store.root.glob("filter*")] == [f"{wanted.name}.partial"]
    assert store.find(wanted) is None
    assert store.sealed() == []

    def build(out: Path) -> Books:
        assert (out / "half").exists() == resumes
        (out / "half").write_text("whole")
        return Books()

    sealed = store.build(wanted, build)
    assert (sealed.path / "half").read_text() == "whole"
    assert [path.name for path in store.root.glob("filter*")] == [wanted.name]


def test_of_two_builders_of_one_key_one_builds_and_the_other_reuses(store: Store) -> None:
    """Processes of their own: a fork of the tests would inherit whatever threads run there."""
    once = BUILD.replace("time.sleep(60)", "time.sleep(1)\n    return Books()")
    once = once.replace('(out / "half")', 'Path(sys.argv[1], f"built-by-{time.time_ns()}").touch()\n    (out / "half")')
    command = [sys.executable, "-c", once, str(store.root), "False"]
    store.root.mkdir()
    children = [subprocess.Popen(command) for _ in range(2)]
    assert [child.wait(120) for child in children] == [0, 0]
    assert len(list(store.root.glob("built-by-*"))) == 1
    assert store.find(request(inputs={})) is not None


def test_a_fork_that_outlives_a_killed_builder_does_not_keep_its_key_locked(store: Store, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    forking = BUILD.replace(
        '    (out / "half")',
        f"    import os\n    if (pid := os.fork()) == 0:\n        time.sleep(60)\n"
        f'    Path({str(pid_file)!r}).write_text(str(pid))\n    (out / "half")',
    )
    child = subprocess.Popen([sys.executable, "-c", forking, str(store.root), "False"])
    deadline_s = time.monotonic() + 60
    while not list(store.root.glob("*.partial/half")) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    child.kill()
    child.wait()
    orphan = int(pid_file.read_text())
    os.kill(orphan, 0)  # it lives
    started_s = time.monotonic()
    store.build(request(inputs={}), lambda out: Books())
    assert time.monotonic() - started_s < 20
    os.kill(orphan, signal.SIGKILL)


def test_two_keys_that_share_eight_digits_are_told_apart(store: Store) -> None:
    sealed = store.build(request(), builder(3, KEPT_3))
    path = sealed.path / "manifest.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace(sealed.manifest.key, sealed.manifest.key[:8] + "0" * 56))
    with pytest.raises(ValueError, match="two keys share eight digits"):
        store.build(request(), builder(3, KEPT_3))


def test_a_manifest_of_another_schema_says_to_rebuild(store: Store) -> None:
    sealed = store.build(request(), builder(3, KEPT_3))
    path = sealed.path / "manifest.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(ValueError, match=r"has manifest schema 99; this version reads 1\. Rebuild"):
        store.find(request())
