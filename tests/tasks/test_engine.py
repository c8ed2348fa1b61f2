"""Where ranks run changes nothing but the time: workers here, a Ray cluster, a Slurm job array, and a kill at any moment."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from domainlm.tasks.decontaminate import DecontaminateConfig
from domainlm.tasks.filter import FilterConfig, filter_shard
from domainlm.tasks.filter import filter as filter_documents
from domainlm.tasks.manifest import Part, file_sha256
from domainlm.tasks.rules import LengthRule, LicenseRule
from domainlm.tasks.runtime import Runtime, SlurmSettings
from domainlm.tasks.store import Store
from domainlm.tasks.token_passes import EncodePiece, cut_pieces
from domainlm.tasks.tokenize import TokenizeConfig, read_header, tokenize
from domainlm.tasks.work_json import load_work, save_work

LENGTH_AND_LICENCE = FilterConfig(rules=(LicenseRule(), LengthRule(min_words=3)))
SLURM = SlurmSettings(partition="cpu", sbatch={"account": "corpus"})


def content(directory: Path) -> dict[str, str]:
    """The digest of every file of a sealed directory but its manifest, which holds times."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(directory).as_posix(): file_sha256(path) for path in files}


def build_both(store: Store, documents: Part, tokenizer: Part, runtime: Runtime) -> list[dict[str, str]]:
    """The content of `filter` and of `tokenize` on what it keeps."""
    kept = filter_documents.build(store, LENGTH_AND_LICENCE, {"documents": documents}, runtime)
    inputs = {"documents": kept.part("kept"), "tokenizer": tokenizer}
    return [
        content(kept.path),
        content(tokenize.build(store, TokenizeConfig(shard_tokens=1_000), inputs, runtime).path),
    ]


# the work of a rank as JSON


def test_work_travels_as_json_and_comes_back_equal(
    tmp_path: Path, make_corpus: Callable[..., Part], tokenizer: Part
) -> None:
    documents = make_corpus("cases", ["a fever"], files=2)
    header = read_header(tokenizer.root / "tokenizer")
    encode = EncodePiece(cut_pieces(documents.paths()), tokenizer.root, "fastokens", header, 0, tmp_path)
    shard = partial(filter_shard, config=LENGTH_AND_LICENCE, documents=documents, out=tmp_path)
    plain = (None, True, 1, 0.5, "é", [1, [2]], (), Path("a"), {1: ("b",)}, DecontaminateConfig())
    save_work((encode, plain), tmp_path / "work.json")
    assert load_work(tmp_path / "work.json") == (encode, plain)
    save_work(shard, tmp_path / "work.json")
    back = load_work(tmp_path / "work.json")
    assert (back.func, back.args, back.keywords) == (shard.func, shard.args, shard.keywords)
    save_work({"a": np.arange(3, dtype=np.uint16)}, tmp_path / "work.json")
    array = load_work(tmp_path / "work.json")["a"]
    assert (array.dtype, array.tolist()) == (np.uint16, [0, 1, 2])


@dataclass(frozen=True)
class Foreign:
    """Not of the package, for a test's module is none of its own."""

    words: int


@pytest.mark.parametrize("work", [lambda rank: {}, object(), b"raw", {1, 2}, Foreign(3), subprocess.run])
def test_what_another_machine_could_not_read_is_refused(tmp_path: Path, work: object) -> None:
    with pytest.raises(TypeError, match="cannot travel to another machine"):
        save_work(work, tmp_path / "work.json")


def test_work_that_names_anything_else_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "work.json").write_text('{"$": "name", "name": "os:system"}')
    with pytest.raises(ValueError, match="os:system is no part of domainlm"):
        load_work(tmp_path / "work.json")


# Slurm: a job array that runs on this machine

SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
last = int(re.search(r"--array=0-(\\d+)", script)[1])
if os.fork() == 0:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    open("{state}/42", "w").write(str(os.getpid()))
    for task in range(last + 1):
        out = open("{state}/%d.log" % task, "w")
        environment = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(task)}}
        subprocess.run(["bash", sys.argv[-1]], env=environment, stdout=out, stderr=out)
    os.remove("{state}/42")
    os._exit(0)
while not os.path.exists("{state}/42") and not os.path.exists("{state}/0.log"):
    pass
print("42;cluster")
"""
SQUEUE = '#!/bin/bash\n[ -e {state}/42 ] && echo "42 running"\n'
SCANCEL = '#!/bin/bash\necho "$@" > {state}/cancelled\n'


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`sbatch`, `squeue` and `scancel` on the PATH; the array's tasks run one after the other on this machine."""
    state = tmp_path / "slurm"
    state.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)):
        (state / name).write_text(text.format(python=sys.executable, state=state))
        (state / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{state}:{os.environ['PATH']}")
    return state


def test_a_slurm_job_array_gives_the_bytes_of_local_workers(
    tmp_path: Path, slurm: Path, make_corpus: Callable[..., Part], tokenizer: Part
) -> None:
    documents = make_corpus("cases", [f"Case {n}: a fever and {n} mg of amcoril." for n in range(90)], files=2)
    local = build_both(Store(tmp_path / "local"), documents, tokenizer, Runtime())
    cluster = Runtime(executor="slurm", slurm=SLURM, workers=2)
    assert build_both(Store(tmp_path / "slurm-store"), documents, tokenizer, cluster) == local
    assert not (slurm / "cancelled").exists()


def test_the_submitted_script_says_what_it_runs_and_asks_for(
    tmp_path: Path, slurm: Path, make_corpus: Callable[..., Part]
) -> None:
    """A rank that fails leaves its directory, script and error behind; its error is told here."""
    documents = make_corpus("cases", ["a fever"] * 2, files=2)
    documents.paths()[1].write_bytes(b"no Parquet")
    runtime = Runtime(executor="slurm", slurm=SLURM, workers=2, worker_memory_gb=1.5)
    store = Store(tmp_path / "store")
    with pytest.raises(RuntimeError, match=r"1 of 2 shards are not done, rank 1 .*ArrowInvalid") as failure:
        filter_documents.build(store, LENGTH_AND_LICENCE, {"documents": documents}, runtime)
    assert "Build again, and only those are done" in str(failure.value)
    marks = next(store.root.glob("*.partial")) / ".ranks/all"
    script = (marks / "launch.slurm").read_text().splitlines()
    asked = {line.removeprefix("#SBATCH --") for line in script if line.startswith("#SBATCH")}
    wanted = {
        "array=0-1%2",
        "partition=cpu",
        "account=corpus",
        "mem-per-cpu=2G",
        "time=24:00:00",
        "job-name=domainlm-all",
    }
    assert wanted <= asked
    assert script[-1] == f"{sys.executable} -m domainlm.tasks.slurm {marks.resolve()}/work.json"


def test_slurm_settings_and_executor_go_together() -> None:
    with pytest.raises(ValueError, match=r"needs `slurm\.partition`"):
        Runtime(executor="slurm")
    with pytest.raises(ValueError, match="no effect with executor: local"):
        Runtime(slurm=SLURM)


# Ray: a real cluster of one node

IN_RAY = """
import os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from pathlib import Path
import ray
from domainlm.tasks.manifest import outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store
from tests.tasks.test_engine import build_both, content

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
    store, documents, tokenizer = map(Path, sys.argv[1:])
    parts = [outside(one, sorted(path for path in one.rglob("*.*") if path.is_file()), origin="x") for one in (documents, tokenizer)]
    print(build_both(Store(store), *parts, Runtime(executor="ray", workers=2, worker_memory_gb=0.2)))
    ray.shutdown()
"""


def test_a_ray_cluster_gives_the_bytes_of_local_workers(
    tmp_path: Path, make_corpus: Callable[..., Part], tokenizer: Part
) -> None:
    documents = make_corpus("cases", [f"Case {n}: a fever and {n} mg of amcoril." for n in range(90)], files=2)
    local = build_both(Store(tmp_path / "local"), documents, tokenizer, Runtime())
    (tmp_path / "in_ray.py").write_text(IN_RAY)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}", "PYTHONWARNINGS": "ignore"}
    command = [
        sys.executable,
        str(tmp_path / "in_ray.py"),
        str(tmp_path / "ray"),
        str(documents.root),
        str(tokenizer.root / "tokenizer"),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1] == str(local)
