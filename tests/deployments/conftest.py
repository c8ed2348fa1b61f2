"""A Prefect server of the tests' own, with a process worker, a small recipe and documents to build from.

All of it lives below pytest's temporary folder: the server's database, the store, the worker's directory.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import httpx
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from domainlm.deployments.specification import LOCAL_PROFILE
from domainlm.flows.recipe_files import apply_setting
from domainlm.tasks.runtime import Runtime
from domainlm.trainer import supervisor

T = TypeVar("T")
GUIDE = Path(__file__).parents[2] / "docs" / "deploy.md"
DRUGS = ("velotrine", "amcoril", "sebutan", "dorvaxin", "ilemarol", "pranostat", "quorimab", "tesofane")
SIGNS = ("fever", "oedema", "a dry cough", "angina", "low sodium", "migraine", "gout")
PLACES = ("Graz", "Turku", "Leeds", "Porto", "Brno", "Gdansk", "Malmo", "Parma", "Ghent", "Lyon", "Bari")


def guide_commands() -> list[str]:
    """The commands of docs/deploy.md, in their order."""
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def here() -> Runtime:
    """The runtime that `domainlm deploy` gives to runs: the local profile, paths from where the worker was started."""
    return Runtime.model_validate(yaml.safe_load(LOCAL_PROFILE.read_text(encoding="utf-8")))


@pytest.fixture(name="here")
def here_fixture() -> Runtime:
    return here()


@pytest.fixture(name="guide_commands")
def guide_commands_fixture() -> list[str]:
    """The commands of docs/deploy.md, in their order."""
    return guide_commands()


@dataclass
class Site:
    """A server, and a folder where its worker works and people type commands."""

    folder: Path
    url: str
    environment: dict[str, str]
    worker: "subprocess.Popen[bytes] | None" = None

    def client(self) -> SyncPrefectClient:
        return SyncPrefectClient(self.url)

    def start(self, command: str, *, log: str) -> "subprocess.Popen[bytes]":
        """Start a command of the guide that does not end by itself."""
        with (self.folder / log).open("ab") as output:
            name, *arguments = self._program(command)
            tied = [sys.executable, supervisor.__file__, str(os.getpid())]  # it ends with pytest, however that ends
            program = [*tied, str(Path(sys.executable).parent / name), *arguments]
            return subprocess.Popen(
                program, cwd=self.folder, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )

    def type_in(self, command: str, **places: object) -> str:
        """What a command of the guide prints, with what stands in capitals there filled in."""
        return self.run(*(str(places.get(word, word)) for word in self._program(command)))

    def run(self, program: str, *arguments: str) -> str:
        """What a program of this environment prints; it must succeed."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{program} {arguments}\n{done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout + done.stderr

    def _program(self, command: str) -> list[str]:
        assert command in guide_commands(), f"{command} is not in {GUIDE}"
        return shlex.split(command)

    def deployment(self, name: str) -> DeploymentResponse:
        with self.client() as client:
            return client.read_deployment_by_name(f"{name}/{name}")

    def start_run(self, name: str, *settings: str) -> UUID:
        """Ask for a run of a deployment, with some settings of its recipe and of its runtime changed."""
        deployment = self.deployment(name)
        for setting in settings:
            apply_setting(deployment.parameters, setting)
        with self.client() as client:
            return client.create_flow_run_from_deployment(deployment.id, parameters=deployment.parameters).id

    def log(self, name: str = "worker.log") -> str:
        """The end of a log."""
        path = self.folder / name
        return path.read_text()[-6000:] if path.exists() else ""

    def start_worker(self) -> None:
        self.worker = self.start("prefect worker start --pool domainlm", log="worker.log")

    def kill_worker(self) -> None:
        """As a power cut would, for the worker alone: what it has started lives on."""
        assert self.worker is not None
        self.worker.kill()
        self.worker.wait(20)

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """End a process that was started here, and its group, softly first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)

    def wait_for(self, what: str, look: Callable[[], T | None], *, timeout_s: float = 90) -> T:
        """What `look` finds, as soon as it finds something."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if found := look():
                return found
            time.sleep(0.2)
        raise TimeoutError(f"no {what} after {timeout_s} s")

    def wait_for_state(self, run: UUID, *names: str, timeout_s: float = 90) -> State:
        """The state of a flow run, once it has one of these names."""

        def look() -> State | None:
            with self.client() as client:
                state = client.read_flow_run(run).state
            return state if state is not None and state.name in names else None

        return self.wait_for(f"state {' or '.join(names)}", look, timeout_s=timeout_s)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running Prefect server and a folder with documents and a recipe."""
    folder = tmp_path_factory.mktemp("site")
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    site = Site(folder, url, environment)
    write_corpus(folder / "documents" / "00000.jsonl", range(160))
    write_benchmark(folder / "benchmarks" / "medqa.jsonl")
    (folder / "my-recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    server = site.start("prefect server start", log="server.log")
    try:
        site.wait_for("server", lambda: is_healthy(url))
        yield site
    finally:
        site.stop(server)


@pytest.fixture
def in_process(site: Site) -> Iterator[Site]:
    """Prefect's own functions, called from the test itself, talk to the test's server."""
    changes = {PREFECT_API_URL: site.url, PREFECT_HOME: site.environment["PREFECT_HOME"]}
    with temporary_settings(changes), contextlib.chdir(site.folder):
        yield site


@pytest.fixture(scope="session")
def deployed(site: Site) -> Site:
    """The deployments are registered, with the small recipe, and bare names are understood."""
    site.type_in("prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api PREFECT_PLUGINS_ENABLED=true")
    assert site.type_in("domainlm deploy my-recipe.yaml").count("created") == 6
    return site


@pytest.fixture(scope="session")
def worker(deployed: Site) -> Iterator[Site]:
    """A process worker runs in the folder."""
    deployed.start_worker()
    yield deployed
    if deployed.worker is not None:
        deployed.stop(deployed.worker)


@pytest.fixture(scope="session")
def built(worker: Site) -> Site:
    """The recipe's model is published: by the literal command, watched to its end."""
    printed = worker.type_in("prefect deployment run build-domain-model --watch")
    assert "Flow run finished successfully in 'Completed'" in printed
    return worker


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(name="write_corpus")
def write_corpus_fixture() -> Callable[[Path, Sequence[int]], None]:
    return write_corpus


def write_corpus(path: Path, numbers: Sequence[int]) -> None:
    """Short case reports about invented drugs, no two alike."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"id": str(n), "text": case_report(n)}) + "\n" for n in numbers))


def case_report(n: int) -> str:
    drug, sign, other = DRUGS[n % 8], SIGNS[n % 7], SIGNS[(n // 7 + 3) % 7]
    return (
        f"A patient of {19 + n % 71} years from {PLACES[n % 11]} was given {drug} at {5 * (n % 19) + 5} mg a day for "
        f"{sign}. After {n % 12 + 1} weeks {other} was seen and the dose was cut to {n % 5 + 1} mg. In {PLACES[n % 5]} "
        f"{n % 9 + 2} of {40 + n} such patients have had {SIGNS[(n * 3) % 7]}, and {DRUGS[(n * 5) % 8]} helped most."
    )


def write_benchmark(path: Path) -> None:
    """Four questions of the MedQA form."""
    path.parent.mkdir(exist_ok=True)
    rows = [
        {"id": f"q{n}", "sent1": f"Which sign calls for {DRUGS[n]} before all else?", "sent2": "", "label": n % 4}
        | {f"ending{option}": SIGNS[(n + option) % 7] for option in range(4)}
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


RECIPE = {
    "name": "my-recipe",
    "sources": [
        {
            "name": "cases",
            "path": "documents/*.jsonl",
            "format": "jsonl",
            "license": "CC0-1.0",
            "license_evidence": "ours",
        }
    ],
    "filter": {"rules": [{"rule": "license"}, {"rule": "length", "min_words": 10}]},
    "deduplicate": {"min_jaccard": 0.95},
    "tokenizer": {"vocab_size": 400},
    "mix": {
        "token_shares": {"cases": 1.0},
        "token_budget": 6400,
        "sequence_tokens": 32,
        "batch_tokens": 256,
        "max_repetitions": 100,
    },
    "train": {"model": {"layers": 2, "width": 32, "heads": 2, "kv_heads": 2, "mlp_width": 64}, "precision": "fp32"},
    "evaluate": {
        "held_out_bytes": 2000,
        "benchmarks": [{"name": "medqa", "form": "medqa", "path": "benchmarks/medqa.jsonl"}],
    },
}
