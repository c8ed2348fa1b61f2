"""A data set of the Hugging Face Hub is read at a commit, file by file, and is what the commit says or nothing.

The hub is a server on this machine that answers the requests of the real client.
"""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from domainlm.tasks.acquire import AcquireConfig
from domainlm.tasks.documents import read_documents
from domainlm.tasks.readers.remote import HubDataset
from domainlm.tasks.store import Store

REPOSITORY, REVISION = "team/notes", "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """A repository that is served, and what was asked of it."""

    url: str
    files: dict[str, bytes]
    served: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


def entry(path: str, content: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    found: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": blob}
    if path.endswith(".parquet"):
        digest = hashlib.sha256(content).hexdigest()
        found["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
    return found


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["one", "two"]}), tmp_path / "0.parquet")
    files = {
        "README.md": b"# Notes",
        "data/train-0.parquet": (tmp_path / "0.parquet").read_bytes(),
        "data/more.jsonl": b'{"id": "c", "text": "three"}\n',
    }
    hub = Hub("", files)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(path)
            if path.startswith(tree := f"/api/datasets/{REPOSITORY}/tree/{REVISION}"):
                folder = path.removeprefix(tree).strip("/")
                found = [entry(*one) for one in hub.files.items() if one[0].startswith(folder)]
                self.answer(json.dumps(found).encode())
            elif path == f"/api/datasets/{REPOSITORY}/revision/{REVISION}":
                self.answer(json.dumps({"id": REPOSITORY, "sha": REVISION, "siblings": []}).encode())
            elif path.startswith(start := f"/datasets/{REPOSITORY}/resolve/{REVISION}/"):
                name = path.removeprefix(start)
                self.answer(hub.served.get(name, hub.files[name]))
            else:
                self.answer(b'{"error": "Revision Not Found"}', 404)

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
            names = json.loads(asked)["paths"]
            self.answer(json.dumps([entry(name, hub.files[name]) for name in names if name in hub.files]).encode())

        def answer(self, content: bytes, status: int = 200) -> None:
            place = self.headers.get("Range", "")
            if place:
                first, _, last = place.removeprefix("bytes=").partition("-")
                whole = len(content)
                content = content[int(first) : int(last) + 1 if last else None]
                status = 206
            self.send_response(status)
            if place:
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(content) - 1}/{whole}")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        yield hub
        server.shutdown()


BUILD = """
import sys
from pathlib import Path
import huggingface_hub.utils._http
huggingface_hub.utils._http.time.sleep = lambda seconds: None  # between the tries of the client: half a minute
from domainlm.flows import settings
from domainlm.tasks.acquire import AcquireConfig, acquire
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store

config = AcquireConfig.model_validate_json(sys.argv[2])
acquire.build(Store(Path(sys.argv[1])), config, {}, Runtime())
"""


def build(store: Store, hub: Hub, *, offline: bool = False, **settings: object) -> subprocess.CompletedProcess[str]:
    """Acquire as a flow does, in a process of its own: the hub's client reads its endpoint once."""
    place = {"repository": REPOSITORY, "revision": REVISION, **settings}
    config = {"name": "notes", "format": "parquet", "license": "MIT", "hub": place}
    config["format"] = "jsonl" if str(place.get("files", "")).endswith("jsonl") else "parquet"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HOME": str(store.root / "hub"), "no_proxy": "127.0.0.1"}
    environment.pop("HF_HUB_OFFLINE", None)
    if offline:
        environment["HF_HUB_OFFLINE"] = "1"
    command = [sys.executable, "-c", BUILD, str(store.root), json.dumps(config)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("files", "texts"), [("data/*.parquet", ["one", "two"]), ("*.jsonl", ["three"])])
def test_the_files_of_a_commit_are_read_and_recorded(store: Store, hub: Hub, files: str, texts: list[str]) -> None:
    done = build(store, hub, files=files)
    assert done.returncode == 0, done.stderr
    [sealed] = store.sealed()
    documents = list(read_documents(sealed.path / "kept/00000.parquet"))
    assert [document.text for document in documents] == texts
    [resolved] = json.loads((sealed.path / "resolved.json").read_text())
    name = next(name for name in hub.files if name.endswith(files[-6:]))
    assert resolved["url"] == f"hf://datasets/{REPOSITORY}@{REVISION}/{name}"
    assert resolved["sha256"] == hashlib.sha256(hub.files[name]).hexdigest()
    assert documents[0].uri == f"{resolved['url']}#0"
    assert not list(store.root.glob("hub/**/*.parquet"))  # nothing went into a cache


@pytest.mark.parametrize("files", ["*.parquet", "*.jsonl"])
def test_a_file_that_is_not_what_the_commit_says_is_refused(store: Store, hub: Hub, files: str) -> None:
    name = next(name for name in hub.files if name.endswith(files[1:]))
    hub.served[name] = hub.files[name][:-1] + b" "
    done = build(store, hub, files=files)
    assert done.returncode == 1
    assert "ChangedRemote" in done.stderr.splitlines()[-1]
    assert store.sealed() == []


def test_a_commit_or_a_pattern_that_finds_nothing_is_told(store: Store, hub: Hub) -> None:
    gone = build(store, hub, revision="f" * 40)
    assert "HubUnreachable" in gone.stderr
    assert "Does the commit exist" in gone.stderr
    none = build(store, hub, files="*.arrow")
    assert "'*.arrow' fits no file of team/notes" in none.stderr
    assert "it holds README.md, data/more.jsonl, data/train-0.parquet" in none.stderr


def test_a_hub_that_is_out_of_reach_is_told(store: Store, hub: Hub) -> None:
    refused = build(store, hub, offline=True)
    assert "HubUnreachable: team/notes at 0123" in refused.stderr
    assert "HF_HUB_OFFLINE is set: unset it" in refused.stderr
    assert hub.asked == []
    hub.url = "http://127.0.0.1:9"
    assert "HubUnreachable" in build(store, hub).stderr


def test_a_branch_or_a_short_commit_is_no_revision() -> None:
    for revision in ("main", "0123456", ""):
        with pytest.raises(ValidationError, match="revision"):
            HubDataset(repository=REPOSITORY, revision=revision)
    assert AcquireConfig(name="s", format="parquet").hub is None
