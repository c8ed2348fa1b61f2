"""The shape of the house: imports point one way, the lower layers stand alone, nothing unsafe is called."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ["trainer", "eval", "tasks", "flows", "deployments"]  # low to high
TRAINER_MAY_IMPORT = {"torch", "transformers", "safetensors", "pyarrow", "numpy"}
TRACKERS = {"mlflow", "wandb"}  # which trainer/trackers.py imports when it is asked for them
EVAL_MAY_NOT_IMPORT = {"prefect", "datatrove", "pydantic"}
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every imported module, deferred and type-only imports included; relative ones as absolute."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "domainlm." + ".".join(path.relative_to(ROOT).parent.parts)
            yield node.lineno, (f"{package}.{node.module or ''}" if node.level else node.module or "")


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "domainlm" and len(parts) > 1 else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    own = LAYERS.index(path.relative_to(ROOT).parts[0])
    upwards = [
        f"line {line}: {module}"
        for line, module in imports_of(path)
        if (layer := layer_of(module)) in LAYERS and LAYERS.index(layer) > own
    ]
    assert not upwards


def test_the_trainer_needs_only_what_a_gpu_node_has() -> None:
    allowed = TRAINER_MAY_IMPORT | set(sys.stdlib_module_names) | {"domainlm"}
    strays = [
        f"{path.name}:{line} {module}"
        for path in (ROOT / "trainer").rglob("*.py")
        for line, module in imports_of(path)
        if module.split(".")[0] not in allowed | (TRACKERS if path.name == "trackers.py" else set())
    ]
    assert not strays


def test_the_trainer_imports_its_own_files_relatively() -> None:
    """`torchrun -m trainer` runs from a plain checkout, where no package called domainlm is installed."""
    absolute = [p.name for p in (ROOT / "trainer").rglob("*.py") if re.search(r"(from|import) domainlm", p.read_text())]
    assert not absolute


def test_evaluation_runs_without_the_workflow_engine() -> None:
    strays = [
        f"{path.name}:{line} {module}"
        for path in (ROOT / "eval").rglob("*.py")
        for line, module in imports_of(path)
        if module.split(".")[0] in EVAL_MAY_NOT_IMPORT
    ]
    assert not strays


def test_a_command_that_plans_waits_for_no_large_library() -> None:
    """They take seconds, at every `plan`, `explain` and start of a flow; the processes that train and ask have them."""
    program = "import sys, domainlm.deployments.command, domainlm.flows.chain; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"torch", "transformers", "scipy.stats", "lm_eval", "prefect"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_page_with_a_docstring(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 300
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unsafe_reads_a_file(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\bpickle\.|torch\.load\(|weights_only=False|trust_remote_code=True|unsafe_load", text)


def test_parquet_is_read_in_batches_in_one_way() -> None:
    """pyarrow's own defaults hold the columns of a whole file, and threads' leavings."""
    ours = ROOT / "eval" / "parquet.py"
    careless = re.compile(r"ParquetFile\(|\.iter_batches\((?!.*use_threads=False)")
    assert [path for path in FILES if path != ours and careless.search(path.read_text())] == []
