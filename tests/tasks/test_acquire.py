"""Acquire: every record has a fate, the same for any number of workers, and nothing comes from elsewhere."""

import gzip
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from botocore.client import BaseClient
from moto.server import ThreadedMotoServer
from pydantic import ValidationError

from domainlm.tasks.acquire import AcquireConfig, TooManyDeadLetters, acquire
from domainlm.tasks.document_shards import EmptyCorpus
from domainlm.tasks.documents import Document, read_documents, read_verdicts
from domainlm.tasks.manifest import Part, outside
from domainlm.tasks.readers.remote import ChangedRemote, RemoteFile, UnreachableRemote
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.source_files import UnsafePath, find_files
from domainlm.tasks.store import Sealed, Store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    return root


def jsonl(path: Path, *rows: dict[str, object] | str) -> None:
    content = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(content.encode(), mtime=0) if path.suffix == ".gz" else content.encode())


def part(root: Path, pattern: str = "*") -> Part:
    return outside(root, find_files(root, pattern), origin=pattern)


def documents(sealed: Sealed) -> list[Document]:
    return [document for path in sorted(sealed.path.glob("kept/*.parquet")) for document in read_documents(path)]


def dead_letters(sealed: Sealed) -> list[dict[str, object]]:
    files = sorted(sealed.path.glob("dead_letters/*.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def test_a_record_becomes_a_document_with_its_licence_and_place(store: Store, runtime: Runtime, source: Path) -> None:
    own = {"id": "x1", "text": "first", "license": "CC-BY", "license_url": "creativecommons.org/licenses/by/4.0/"}
    jsonl(source / "a.jsonl", own | {"url": "https://x.org/1", "metadata": {"pmid": "5"}}, {"id": 2, "text": "zwei"})
    config = AcquireConfig(
        name="trials", format="jsonl", license="CC0-1.0", license_evidence="README", retrieved_at="2026-11-01"
    )
    sealed = acquire.build(store, config, {"files": part(source)}, runtime)
    first, second = documents(sealed)
    assert first == Document(
        doc_id="trials/x1",
        text="first",
        source="trials",
        license="CC-BY-4.0",
        license_evidence="CC-BY; creativecommons.org/licenses/by/4.0/",
        uri="https://x.org/1",
        retrieved_at="2026-11-01",
        content_sha256=hashlib.sha256(b"first").hexdigest(),
        parent_id=None,
        native_metadata='{"pmid":"5"}',
    )
    assert (second.doc_id, second.license, second.license_evidence) == ("trials/2", "CC0-1.0", "README")
    assert second.uri == "a.jsonl#158"
    assert sealed.manifest.licenses == {"CC-BY-4.0": 1, "CC0-1.0": 1}


def test_the_books_balance_over_good_broken_and_duplicate_records(store: Store, runtime: Runtime, source: Path) -> None:
    jsonl(source / "a.jsonl", {"id": "1", "text": "one"}, "{broken", {"id": "2", "text": "two"}, "")
    jsonl(
        source / "b.jsonl.gz", {"id": "2", "text": "again"}, {"id": "3", "text": "three"}, {"id": "3", "text": "three"}
    )
    config = AcquireConfig(name="s", format="jsonl", dead_letter_budget=0.5)
    sealed = acquire.build(store, config, {"files": part(source)}, runtime)
    assert sealed.manifest.entered == {"files": 6}
    assert sealed.manifest.fates == {"kept": 3, "dead_letters": 3}
    assert [document.text for document in documents(sealed)] == ["one", "two", "three"]
    assert [(row["file"], row["offset"], str(row["reason"]).split(":")[0]) for row in dead_letters(sealed)] == [
        ("a.jsonl", 27, "broken JSON"),
        ("b.jsonl.gz", 0, "duplicate id '2'"),
        ("b.jsonl.gz", 58, "duplicate id '3'"),
    ]
    assert json.loads(dead_letters(sealed)[1]["raw"])["text"] == "again"  # type: ignore[arg-type]
    assert sorted(path.name for path in sealed.path.iterdir()) == ["dead_letters", "kept", "manifest.json"]


def test_workers_change_neither_key_nor_bytes(tmp_path: Path, source: Path) -> None:
    for n in range(4):
        rows = [{"id": f"{(n * 7 + i) % 20}", "text": f"text {n} {i}"} for i in range(10)]
        jsonl(source / f"{n}.jsonl", *rows, "{")
    config = AcquireConfig(name="s", format="jsonl", dead_letter_budget=1)
    built = [
        acquire.build(Store(tmp_path / f"store-{n}"), config, {"files": part(source)}, Runtime(workers=n))
        for n in (1, 2)
    ]
    assert built[0].manifest.key == built[1].manifest.key
    assert built[0].manifest.outputs == built[1].manifest.outputs
    assert built[0].manifest.fates == {"kept": 20, "dead_letters": 24}


def test_a_large_file_is_shared_out_among_workers_and_gives_the_same_documents(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl(source / "a.jsonl", *({"id": f"{n % 70}", "text": f"text {n}"} for n in range(80)), "{")
    config = AcquireConfig(name="s", format="jsonl", dead_letter_budget=1)
    whole = acquire.build(Store(tmp_path / "whole"), config, {"files": part(source)}, Runtime())
    monkeypatch.setattr("domainlm.tasks.readers.piece.SPAN_BYTES", 500)
    built = [
        acquire.build(Store(tmp_path / f"store-{n}"), config, {"files": part(source)}, Runtime(workers=n))
        for n in (1, 2)
    ]
    assert built[0].manifest.outputs == built[1].manifest.outputs
    assert len(list(built[0].path.glob("kept/*"))) > 4
    for one in built:
        assert documents(one) == documents(whole)
        assert sorted(map(str, dead_letters(one))) == sorted(map(str, dead_letters(whole)))
        assert (one.manifest.fates, one.manifest.counts) == (whole.manifest.fates, whole.manifest.counts)


def test_the_documents_of_version_3_have_these_bytes(store: Store, runtime: Runtime, source: Path) -> None:
    jsonl(source / "a.jsonl", {"id": "1", "text": "Ünïcode", "license": "MIT", "b": [1, None], "a": 0.1})
    sealed = acquire.build(store, AcquireConfig(name="s", format="jsonl"), {"files": part(source)}, runtime)
    rows = json.dumps(pq.read_table(sealed.path / "kept/00000.parquet").to_pylist(), sort_keys=True)
    digest = hashlib.sha256(rows.encode()).hexdigest()
    assert digest == "8ef46b606d740c93272512b504e65d13c5fd3d39ef66595f11118c4d3a4d85eb", (
        "raise acquire's version if this is wanted"
    )


def test_over_its_budget_a_source_fails_and_names_the_first_dead_letters(
    store: Store, runtime: Runtime, source: Path
) -> None:
    jsonl(source / "a.jsonl", *[{"id": n, "text": "x"} for n in range(98)], "{first", "{second")
    at_budget = AcquireConfig(name="s", format="jsonl", dead_letter_budget=0.02)
    assert acquire.build(store, at_budget, {"files": part(source)}, runtime).manifest.fates["dead_letters"] == 2
    config = AcquireConfig(name="s", format="jsonl", dead_letter_budget=0.019)
    with pytest.raises(TooManyDeadLetters, match=r"2 of 100 .* a\.jsonl#2342 broken JSON.* a\.jsonl#2349") as failure:
        acquire.build(store, config, {"files": part(source)}, runtime)
    place = Path(str(failure.value).split(" are in ")[1].split(". Mend")[0])
    assert pq.read_table(place / "00000.parquet").num_rows == 2


def test_text_files_are_grouped_into_shards_by_their_order_alone(
    store: Store, runtime: Runtime, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domainlm.tasks.source_files.FILES_A_SHARD", 2)
    (source / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/a.txt", "c.txt", "d.md"):
        (source / name).write_text(f"text of {name}")
    config = AcquireConfig(name="notes", format="text", license="MIT")
    sealed = acquire.build(store, config, {"files": part(source, "**/*.txt")}, runtime)
    assert [path.name for path in sorted(sealed.path.glob("kept/*"))] == ["00000.parquet", "00001.parquet"]
    assert [document.doc_id for document in documents(sealed)] == [f"notes/{n}" for n in ("a", "b", "c", "sub/a")]
    assert documents(sealed)[3].uri == "sub/a.txt#0"


def pubmed(path: Path, *events: str) -> None:
    """Events: 12v2 is article 12 in version 2; -12v2 deletes it."""
    parts = []
    for event in events:
        pmid, version = event.lstrip("-").split("v")
        tag = f'<PMID Version="{version}">{pmid}</PMID>'
        title = f"<Article><ArticleTitle>{path.name} {event}</ArticleTitle></Article>"
        article = f"<PubmedArticle><MedlineCitation>{tag}{title}</MedlineCitation></PubmedArticle>"
        parts.append(f"<DeleteCitation>{tag}</DeleteCitation>" if event.startswith("-") else article)
    path.write_text(f"<PubmedArticleSet>{''.join(parts)}</PubmedArticleSet>")


def test_pubmed_deletions_and_versions_hold_across_files(store: Store, runtime: Runtime, source: Path) -> None:
    pubmed(source / "1-baseline.xml", "1v1", "2v1", "3v1", "4v2", "5v1", "6v1")
    pubmed(source / "2-update.xml", "2v2", "3v1", "4v1", "-5v1")
    pubmed(source / "3-update.xml", "-6v1", "-2v1", "7v1", "-9v1", "8v1", "-8v1", "5v1")
    config = AcquireConfig(name="pubmed", format="pubmed_xml", dead_letter_budget=0)
    sealed = acquire.build(store, config, {"files": part(source)}, runtime)
    assert {document.doc_id: document.text for document in documents(sealed)} == {
        "pubmed/1": "1-baseline.xml 1v1",
        "pubmed/2": "2-update.xml 2v2",  # a deletion of version 1 leaves version 2
        "pubmed/3": "2-update.xml 3v1",  # the same version again: the later file is the revision
        "pubmed/4": "1-baseline.xml 4v2",  # an older version that comes later does not win
        "pubmed/5": "3-update.xml 5v1",  # published again after its deletion
        "pubmed/7": "3-update.xml 7v1",
    }
    assert sealed.manifest.fates == {"kept": 6, "dead_letters": 0, "deleted": 2, "superseded": 4}
    assert sealed.manifest.entered == {"files": 12}
    verdicts = [verdict for path in sorted(sealed.path.glob("verdicts/*")) for verdict in read_verdicts(path)]
    assert [(verdict.doc_id, verdict.value) for verdict in verdicts if not verdict.keep] == [
        ("pubmed/2", "version 1 superseded"),
        ("pubmed/3", "version 1 superseded"),
        ("pubmed/5", "version 1 superseded"),
        ("pubmed/6", "version 1 deleted"),
        ("pubmed/4", "version 1 superseded"),
        ("pubmed/8", "version 1 deleted"),
    ]


def test_a_pattern_that_finds_nothing_is_an_error_that_names_it(source: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'biomed/\*\.jsonl' finds no file in .*source"):
        find_files(source, "biomed/*.jsonl")


def test_a_source_without_a_document_is_an_error_that_names_its_pattern(
    store: Store, runtime: Runtime, source: Path
) -> None:
    jsonl(source / "a.jsonl")
    with pytest.raises(EmptyCorpus, match=r"source 's' has no document in \*\.jsonl"):
        acquire.build(store, AcquireConfig(name="s", format="jsonl"), {"files": part(source, "*.jsonl")}, runtime)
    assert store.sealed() == []


def test_paths_and_links_that_leave_the_directory_are_refused(
    store: Store, runtime: Runtime, source: Path, tmp_path: Path
) -> None:
    jsonl(tmp_path / "secret.jsonl", {"id": "1", "text": "secret"})
    for pattern in ("../*.jsonl", str(tmp_path / "*.jsonl")):
        with pytest.raises(UnsafePath, match="leads out of"):
            find_files(source, pattern)
    (source / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    with pytest.raises(UnsafePath, match=r"'link\.jsonl' leads out of"):
        find_files(source, "*.jsonl")
    config = AcquireConfig(name="s", format="jsonl")
    for name in ("../secret.jsonl", "link.jsonl"):
        forged = Part(source, (name,), "0" * 64, 1, None, "forged")
        with pytest.raises(UnsafePath, match="leads out of"):
            acquire.build(store, config, {"files": forged}, runtime)


def test_links_in_a_circle_and_into_nothing_are_refused(source: Path) -> None:
    (source / "a.jsonl").symlink_to(source / "b.jsonl")
    (source / "b.jsonl").symlink_to(source / "a.jsonl")
    with pytest.raises(UnsafePath, match="cannot be followed"):
        find_files(source, "*.jsonl")
    (source / "b.jsonl").unlink()
    with pytest.raises(UnsafePath, match="cannot be followed"):
        find_files(source, "*.jsonl")


def test_a_directory_that_links_to_its_parent_is_no_endless_walk(source: Path) -> None:
    jsonl(source / "a.jsonl", {"id": "1", "text": "x"})
    (source / "loop").symlink_to(source)
    assert [path.name for path in find_files(source, "**/*.jsonl")] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "docx"}, "Input should be 'jsonl'"),
        ({"name": "../x"}, "should match pattern"),
        ({"license": "CC BY 4.0"}, r"'CC BY 4\.0' is no SPDX expression; did you mean CC-BY-4\.0\?"),
        ({"license": "ours"}, "write LicenseRef-"),
        (
            {"format": "jats", "text_field": "body"},
            "text_field has no effect on jats files, but on jsonl, parquet, arrow, csv, tsv",
        ),
        ({"urls": [{"url": "https://x.org/a.jsonl"}]}, "has no sha256"),
        ({"urls": [{"url": "file:///etc/passwd", "sha256": "0" * 64}]}, "should match pattern"),
        ({"allow_floating": True}, "allow_floating has no effect"),
        ({"textfield": "body"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_move_to_make(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AcquireConfig.model_validate({"name": "s", "format": "jsonl"} | settings)


def test_a_source_needs_files_or_urls_and_not_both(store: Store, runtime: Runtime, source: Path) -> None:
    with pytest.raises(ValueError, match=r"needs one place: .* It has none"):
        acquire.build(store, AcquireConfig(name="s", format="jsonl"), {}, runtime)
    jsonl(source / "a.jsonl", {"id": "1", "text": "x"})
    both = AcquireConfig(name="s", format="jsonl", urls=(RemoteFile(url="https://x.org/a", sha256="0" * 64),))
    with pytest.raises(ValueError, match=r"It has \* and 1 URLs"):
        acquire.build(store, both, {"files": part(source)}, runtime)


@pytest.fixture
def web(source: Path) -> Iterator[str]:
    """The source directory, served on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(source))  # type: ignore[arg-type]

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # aiohttp's sessions outlive fsspec's open file
def test_a_remote_file_is_fetched_once_checked_and_recorded(
    store: Store, runtime: Runtime, source: Path, web: str
) -> None:
    jsonl(source / "a.jsonl.gz", {"id": "1", "text": "from afar"})
    digest = hashlib.sha256((source / "a.jsonl.gz").read_bytes()).hexdigest()
    pinned = AcquireConfig(name="s", format="jsonl", urls=(RemoteFile(url=f"{web}/a.jsonl.gz", sha256=digest),))
    sealed = acquire.build(store, pinned, {}, runtime)
    assert [(document.text, document.uri) for document in documents(sealed)] == [("from afar", f"{web}/a.jsonl.gz#0")]
    assert sealed.manifest.entered == {"files": 1}
    [resolved] = json.loads((sealed.path / "resolved.json").read_text())
    assert datetime.fromisoformat(resolved.pop("retrieved_at")).tzinfo == UTC
    assert resolved == {"url": f"{web}/a.jsonl.gz", "sha256": digest, "bytes": (source / "a.jsonl.gz").stat().st_size}
    assert [output.record for output in sealed.manifest.outputs] == [False, True]

    floating = AcquireConfig(name="f", format="jsonl", urls=(RemoteFile(url=f"{web}/a.jsonl.gz"),), allow_floating=True)
    sealed = acquire.build(store, floating, {}, runtime)
    assert json.loads((sealed.path / "resolved.json").read_text())[0]["sha256"] == digest

    gone = AcquireConfig(name="s", format="jsonl", urls=(RemoteFile(url=f"{web}/b.jsonl.gz", sha256=digest),))
    with pytest.raises(UnreachableRemote, match=f"{web}/b.jsonl.gz cannot be read"):
        acquire.build(store, gone, {}, runtime)
    changed = AcquireConfig(name="s", format="jsonl", urls=(RemoteFile(url=f"{web}/a.jsonl.gz", sha256="0" * 64),))
    with pytest.raises(ChangedRemote, match=f"has sha256 {digest}, and 0000"):
        acquire.build(store, changed, {}, runtime)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[BaseClient]:
    """A client of an object store of this machine, in which `texts` is a bucket."""
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    client = boto3.client("s3")
    client.create_bucket(Bucket="texts")
    yield client
    client.close()
    server.stop()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # aiohttp's sessions outlive fsspec's open file
def test_an_object_of_s3_is_read_by_the_same_code(
    store: Store, runtime: Runtime, source: Path, bucket: BaseClient
) -> None:
    jsonl(source / "a.jsonl.gz", {"id": "1", "text": "from a bucket"})
    content = (source / "a.jsonl.gz").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    bucket.put_object(Bucket="texts", Key="deep/a.jsonl.gz", Body=content)
    url = "s3://texts/deep/a.jsonl.gz"
    pinned = AcquireConfig(name="s", format="jsonl", urls=(RemoteFile(url=url, sha256=digest),))
    sealed = acquire.build(store, pinned, {}, runtime)
    assert [(document.text, document.uri) for document in documents(sealed)] == [("from a bucket", f"{url}#0")]
    assert json.loads((sealed.path / "resolved.json").read_text())[0]["sha256"] == digest

    bucket.put_object(Bucket="texts", Key="deep/a.jsonl.gz", Body=content + b"more")
    again = pinned.model_copy(update={"name": "t"})
    with pytest.raises(ChangedRemote, match=f"{url} has sha256 .* {digest} is pinned"):
        acquire.build(store, again, {}, runtime)
    gone = AcquireConfig(name="g", format="jsonl", urls=(RemoteFile(url="s3://texts/no.jsonl", sha256=digest),))
    with pytest.raises(UnreachableRemote, match=r"s3://texts/no\.jsonl cannot be read .*AWS_ACCESS_KEY_ID"):
        acquire.build(store, gone, {}, runtime)


BUILD = """
import sys
from pathlib import Path
from domainlm.tasks.acquire import AcquireConfig, acquire
from domainlm.tasks.manifest import Part
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store

part = Part(Path(sys.argv[1]), ("0.jsonl", "1.jsonl"), "0" * 64, 1, None, "test")
acquire.build(Store(Path(sys.argv[2])), AcquireConfig(name="s", format="jsonl"), {"files": part}, Runtime())
"""


def living(session: int) -> list[str]:
    """Processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended while we looked
            state = path.read_text().rpartition(")")[2].split()
            if int(state[3]) == session and state[0] != "Z":
                found.append(path.parent.name)
    return found


def test_killed_in_the_second_file_it_resumes_without_reading_the_first_again(
    store: Store, runtime: Runtime, source: Path
) -> None:
    jsonl(source / "0.jsonl", {"id": "0", "text": "as it was before the kill"})
    os.mkfifo(source / "1.jsonl")  # a reader of it hangs until it is killed
    command = [sys.executable, "-c", BUILD, str(source), str(store.root)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline_s = time.monotonic() + 60
    while not list(store.root.glob("*.partial/.ranks/read/completions/00000")) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    time.sleep(0.5)
    assert living(child.pid) == []
    assert [path.suffix for path in store.root.glob("acquire*")] == [".partial"]

    (source / "1.jsonl").unlink()
    jsonl(source / "1.jsonl", {"id": "1", "text": "one"})
    jsonl(source / "0.jsonl", {"id": "0", "text": "read again"})
    same = Part(source, ("0.jsonl", "1.jsonl"), "0" * 64, 1, None, "test")
    sealed = acquire.build(store, AcquireConfig(name="s", format="jsonl"), {"files": same}, runtime)
    assert [document.text for document in documents(sealed)] == ["as it was before the kill", "one"]
    assert sealed.manifest.fates == {"kept": 2, "dead_letters": 0}
    assert [path.name for path in store.root.glob("acquire*")] == [sealed.path.name]


@pytest.mark.real
def test_real_sources_come_in_whole(store: Store) -> None:
    root = Path(os.environ.get("REALDATA", "/nonexistent"))
    assert root.is_dir(), "set REALDATA to the folder of real text"
    config = AcquireConfig(name="pmc", format="jsonl", dead_letter_budget=0)
    sealed = acquire.build(store, config, {"files": part(root, "biomed/pmc_rct-*.jsonl.gz")}, Runtime(workers=2))
    assert sealed.manifest.fates == {"kept": 1357, "dead_letters": 0}
    assert sealed.manifest.licenses == {
        "CC-BY-2.0": 455,
        "CC-BY-2.5": 32,
        "CC-BY-3.0": 163,
        "CC-BY-4.0": 666,
        "CC-PDM-1.0": 4,
        "CC0-1.0": 14,
        "LicenseRef-CC-BY-unversioned": 23,
    }
