"""Where ranks run changes nothing but the time: workers here, a Ray cluster, a Slurm job array, after a kill too."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from domainlm.eval.benchmarks import Benchmark
from domainlm.tasks.acquire import AcquireConfig, acquire
from domainlm.tasks.annotate import annotate
from domainlm.tasks.decontaminate import DecontaminateConfig, DecontaminateStageConfig, decontaminate
from domainlm.tasks.deduplicate import DeduplicateConfig, deduplicate
from domainlm.tasks.document_shards import run_shards
from domainlm.tasks.filter import FilterConfig, filter_shard
from domainlm.tasks.filter import filter as filter_documents
from domainlm.tasks.manifest import Part, file_sha256, outside
from domainlm.tasks.progress import Progress, watched_by
from domainlm.tasks.rules import LengthRule, LicenseRule
from domainlm.tasks.runtime import Runtime, SlurmSettings
from domainlm.tasks.slurm import Stopped
from domainlm.tasks.store import Store
from domainlm.tasks.token_passes import EncodePiece, cut_pieces
from domainlm.tasks.tokenize import TokenizeConfig, read_header, tokenize
from domainlm.tasks.work_json import load_work, save_work
from domainlm.trainer.supervisor import descendants
from tests.tasks.conftest import QUESTION, write_questions

RULES = FilterConfig(rules=(LicenseRule(), LengthRule(min_words=8)), pii=("email",))
SLURM = SlurmSettings(partition="cpu", sbatch={"account": "corpus"})


def content(directory: Path) -> dict[str, str]:
    """The digest of every file of a sealed directory but its manifest, which holds times."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(directory).as_posix(): file_sha256(path) for path in files}


def environment() -> dict[str, str]:
    """For a program of its own that imports this file."""
    path = f"{Path(__file__).parents[2]}:{os.environ.get('PYTHONPATH', '')}"
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}


def write_source(folder: Path) -> Path:
    """Two JSONL files: cases, a broken line, two duplicates, an address, another licence, a question and its answer."""
    folder.mkdir()
    texts = [f"Case {n}: a fever and {n} mg of amcoril were seen by {n + 7} people on day {n % 9}." for n in range(90)]
    texts += [texts[3], texts[4].replace(" ", "  "), f"{texts[5]} Write to a.person@example.org.", QUESTION * 2]
    for number in range(2):
        rows = [
            json.dumps({"id": str(n), "text": texts[n], "license": "CC-BY-NC-4.0" if n == 8 else "CC0-1.0"})
            for n in range(number, len(texts), 2)
        ]
        (folder / f"{number}.jsonl").write_text("\n".join([*rows, "{broken"]) + "\n")
    return folder


def build_all(store: Store, source: Path, questions: Path, tokenizer: Path, runtime: Runtime) -> list[dict[str, str]]:
    """The content of every stage that works on documents, from raw files to token shards."""
    files = {"files": outside(source, sorted(source.iterdir()), origin="source")}
    sealed = [acquire.build(store, AcquireConfig(name="s", format="jsonl", dead_letter_budget=0.1), files, runtime)]
    documents = {"documents": sealed[-1].part("kept")}
    sealed.append(annotate.build(store, RULES.annotate_config(), documents, runtime))
    selected = {**documents, "annotations": sealed[-1].part("annotated")}
    sealed.append(filter_documents.build(store, RULES, selected, runtime))
    sealed.append(deduplicate.build(store, DeduplicateConfig(), {"s": sealed[-1].part("kept")}, runtime))
    asked = outside(questions.parent, [questions], origin="benchmark drugs")
    inputs = {"documents": sealed[-1].part("kept/s"), "benchmark.drugs": asked}
    config = DecontaminateStageConfig(benchmarks=(Benchmark(name="drugs", form="medqa", path=questions.name),))
    sealed.append(decontaminate.build(store, config, inputs, runtime))
    vocabulary = outside(tokenizer, sorted(tokenizer.glob("*.json")), origin="tokenizer")
    inputs = {"documents": sealed[-1].part("kept"), "tokenizer": vocabulary}
    sealed.append(tokenize.build(store, TokenizeConfig(shard_tokens=1_000), inputs, runtime))
    assert sealed[0].manifest.fates["dead_letters"] == 2
    assert sealed[2].manifest.fates["license"] == 1
    assert sealed[3].manifest.fates["exact_duplicate"] == 2
    assert sealed[4].manifest.fates["contaminated"] == 1
    return [content(one.path) for one in sealed]


# workers here


def processes_below(before: int, rank: int) -> dict[str, int]:
    """The work of a rank that counts the processes begun by this one."""
    return {"more": len(descendants(os.getpid())) - before, "shards": 1}


def fail_once(marker: Path, rank: int) -> dict[str, int]:
    """The work of a rank: the third fails the first time."""
    if rank == 2 and not marker.exists():
        marker.touch()
        raise OSError("the disk is gone")
    return {f"time.{rank}": int(marker.exists())}


def test_one_worker_is_this_process_and_starts_no_other(tmp_path: Path) -> None:
    """What another would cost is a copy of this one's memory, and in a small stage more time than its work."""
    work = partial(processes_below, len(descendants(os.getpid())))
    assert run_shards(work, 3, tmp_path, Runtime()) == {"more": 0, "shards": 3}


def test_after_a_failure_one_worker_does_only_what_is_not_done(tmp_path: Path) -> None:
    work = partial(fail_once, tmp_path / "failed")
    with pytest.raises(OSError, match="the disk is gone"):
        run_shards(work, 4, tmp_path, Runtime())
    assert run_shards(work, 4, tmp_path, Runtime()) == {"time.0": 0, "time.1": 0, "time.2": 1, "time.3": 1}


# the work of a rank as JSON


def test_work_travels_as_json_and_comes_back_equal(
    tmp_path: Path, make_corpus: Callable[..., Part], tokenizer: Part
) -> None:
    documents = make_corpus("cases", ["a fever"], files=2)
    header = read_header(tokenizer.root / "tokenizer")
    encode = EncodePiece(cut_pieces(documents.paths()), tokenizer.root, "fastokens", header, 0, tmp_path)
    shard = partial(filter_shard, config=RULES, documents=documents, annotations=documents, out=tmp_path)
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
    tasks = []
    for task in range(last + 1):
        out = open("{state}/%d.log" % task, "w")
        environment = {{**os.environ, "SLURM_ARRAY_TASK_ID": str(task)}}
        tasks.append(subprocess.Popen(["bash", sys.argv[-1]], env=environment, stdout=out, stderr=out))
    for task in tasks:
        task.wait()
    os.remove("{state}/42")
    os._exit(0)
while not os.path.exists("{state}/42") and not os.path.exists("{state}/0.log"):
    pass
print("42;cluster")
"""
SQUEUE = '#!/bin/bash\n[ -e {state}/42 ] && echo "42 running"\n'
SCANCEL = '#!/bin/bash\necho "$@" > {state}/cancelled\nkill -- -$(cat {state}/42)\n'


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`sbatch`, `squeue` and `scancel` on the PATH; the array's tasks run on this machine, at once."""
    state = tmp_path / "slurm"
    state.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scancel", SCANCEL)):
        (state / name).write_text(text.format(python=sys.executable, state=state))
        (state / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{state}:{os.environ['PATH']}")
    return state


def test_a_slurm_job_array_gives_the_bytes_of_local_workers(tmp_path: Path, slurm: Path, tokenizer: Part) -> None:
    inputs = write_source(tmp_path / "raw"), write_questions(tmp_path / "drugs.jsonl"), tokenizer.root / "tokenizer"
    local = build_all(Store(tmp_path / "local"), *inputs, Runtime())
    cluster = Runtime(executor="slurm", slurm=SLURM, workers=2)
    assert build_all(Store(tmp_path / "slurm-store"), *inputs, cluster) == local
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
        annotate.build(store, RULES.annotate_config(), {"documents": documents}, runtime)
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


def test_a_stop_cancels_the_job(tmp_path: Path, slurm: Path, make_corpus: Callable[..., Part]) -> None:
    inputs = {"documents": make_corpus("cases", ["a fever"] * 2, files=2)}
    runtime = Runtime(executor="slurm", slurm=SLURM)
    with watched_by(lambda progress: None, stop=lambda: True), pytest.raises(Stopped, match="job 42 is cancelled"):
        annotate.build(Store(tmp_path / "store"), RULES.annotate_config(), inputs, runtime)
    assert (slurm / "cancelled").read_text() == "42\n"


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
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store
from tests.tasks.test_engine import build_all

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
    store, *inputs = map(Path, sys.argv[1:])
    print(build_all(Store(store), *inputs, Runtime(executor="ray", workers=2, worker_memory_gb=0.2)))
    ray.shutdown()
"""


def test_a_ray_cluster_gives_the_bytes_of_local_workers(tmp_path: Path, tokenizer: Part) -> None:
    inputs = write_source(tmp_path / "raw"), write_questions(tmp_path / "drugs.jsonl"), tokenizer.root / "tokenizer"
    local = build_all(Store(tmp_path / "local"), *inputs, Runtime())
    (tmp_path / "in_ray.py").write_text(IN_RAY)
    done = subprocess.run(
        [sys.executable, tmp_path / "in_ray.py", tmp_path / "ray", *inputs],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1] == str(local)


# a kill

TO_BE_KILLED = """
import sys
from pathlib import Path
from domainlm.tasks.manifest import outside
from domainlm.tasks.runtime import Runtime
from domainlm.tasks.store import Store
from tests.tasks.test_engine import LARGE_SHARDS, parts
from domainlm.tasks.tokenize import tokenize

if __name__ == "__main__":
    store, *inputs = map(Path, sys.argv[2:])
    tokenize.build(Store(store), LARGE_SHARDS, parts(*inputs), Runtime(workers=int(sys.argv[1])))
"""
COMPLETE = ".ranks/encode-fastokens/completions"
LARGE_SHARDS = TokenizeConfig(shard_tokens=5_000_000)


def parts(documents: Path, tokenizer: Path) -> dict[str, Part]:
    """The inputs of `tokenize`."""
    found = {"documents": sorted(documents.rglob("*.parquet")), "tokenizer": sorted(tokenizer.glob("*.json"))}
    return {name: outside(paths[0].parent, paths, origin=name) for name, paths in found.items()}


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_kill_only_what_was_in_flight_is_done_again_to_the_same_bytes(
    tmp_path: Path, make_corpus: Callable[..., Part], tokenizer: Part, workers: int
) -> None:
    """A kill may come too late, on a machine that is busy; then another build is killed."""
    documents = make_corpus("large", [f"{n} amcoril mg, " * 600 for n in range(4_000)], files=4)
    inputs = parts(documents.root, tokenizer.root / "tokenizer")
    whole = content(tokenize.build(Store(tmp_path / "whole"), LARGE_SHARDS, inputs, Runtime()).path)
    (tmp_path / "to_be_killed.py").write_text(TO_BE_KILLED)
    for attempt in range(5):
        store = Store(tmp_path / f"killed-{attempt}")
        command = [sys.executable, tmp_path / "to_be_killed.py", str(workers)]
        paths = [store.root, documents.root, tokenizer.root / "tokenizer"]
        with subprocess.Popen([*command, *paths], env=environment()) as child:
            try:
                while child.poll() is None and not list(store.root.glob(f"*.partial/{COMPLETE}/*")):
                    time.sleep(0.005)
                below = descendants(child.pid)
                for worker in {worker for server in below for worker in descendants(server)}:
                    os.kill(worker, signal.SIGSTOP)  # so that it cannot end because its work is done
            finally:
                child.kill()
        complete = sorted(store.root.glob(f"*.partial/{COMPLETE}/*"))
        deadline_s = time.monotonic() + 20
        while any(alive(pid) for pid in below) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        left = [pid for pid in below if alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "a worker outlived its builder and may write what the next one writes"
        if 0 < len(complete) < 4:
            break
    assert 0 < len(complete) < 4
    encoded = [path.parents[2] / "fastokens" / f"{path.name}.arrow" for path in complete]
    written_ns = [path.stat().st_mtime_ns for path in encoded]
    again: list[list[int]] = []

    def look(progress: Progress) -> None:
        if not again and progress.done == 4:
            again.append([path.stat().st_mtime_ns for path in encoded])

    with watched_by(look):
        resumed = tokenize.build(store, LARGE_SHARDS, inputs, Runtime())
    assert again == [written_ns]
    assert content(resumed.path) == whole
