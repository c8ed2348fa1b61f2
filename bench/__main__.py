"""All benchmarks, one after the other: `python -m bench [NAME ...] [--json] [--realdata DIR]`, or `make bench`.

A benchmark is a file of bench/ with a `main`; its last line with `--json` is an object with `ours`, `theirs`, `ratio`,
`unit` and `same_result`. Each result is kept, with its date, versions and cores, in bench/results/<name>.json, and
docs/benchmarks.md is written from all of those: a name alone measures that one anew.
"""

import argparse
import ast
import json
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import usable_cores

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"
PAGE = ROOT.parent / "docs" / "benchmarks.md"
PACKAGES = (
    "accelerate",
    "datatrove",
    "fastokens",
    "numpy",
    "numba",
    "pyarrow",
    "spacy",
    "tokenizers",
    "torch",
    "transformers",
)
NEEDED = ("ours", "theirs", "ratio", "unit", "same_result")
ALONE = {"contender"}  # a part of `train`


def main() -> None:
    """Run the benchmarks that were named, or all; ends with 1 if one of them did not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print each result as a line")
    parser.add_argument("--realdata", type=Path, default=Path("../shared/realdata"))
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(benchmarks())):
        sys.exit(f"there is no benchmark {unknown[0]!r}; there are {', '.join(benchmarks())}.")
    names = arguments.names or benchmarks()
    failures = [name for name in names if not run(name, arguments.realdata, as_json=arguments.json)]
    PAGE.write_text(page(kept(RESULTS)))
    if failures:
        sys.exit(f"failed: {', '.join(failures)}.")


def benchmarks() -> list[str]:
    """The files of bench/ that have a `main` and compare, by name."""
    return sorted(path.stem for path in ROOT.glob("[!_]*.py") if _has_main(path) and path.stem not in ALONE)


def kept(results: Path) -> list[dict[str, Any]]:
    """What `run` has kept of each; beside it lie the tables of GPUs, which `bench.train --table` writes itself."""
    paths = [results / f"{name}.json" for name in benchmarks()]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def run(name: str, realdata: Path, *, as_json: bool) -> bool:
    """Run one, and keep its result; says on stderr what went wrong."""
    takes_realdata = "--realdata" in (ROOT / f"{name}.py").read_text()
    command = [sys.executable, "-m", f"bench.{name}", "--json"]
    started_s = time.perf_counter()
    done = subprocess.run(
        [*command, *(["--realdata", str(realdata)] if takes_realdata else [])],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT.parent,
    )
    result = _result(done.stdout)
    if done.returncode or result is None:
        print(f"{name}: ended with {done.returncode}.\n{(done.stderr or done.stdout)[-2000:]}", file=sys.stderr)
        return False
    record = {"name": name, "seconds": round(time.perf_counter() - started_s, 1), **surroundings(), "result": result}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    print(json.dumps(record) if as_json else f"{name}: {result['ratio']} ({result['unit']})", flush=True)
    return True


def surroundings() -> Mapping[str, object]:
    """When, with which versions, on how many cores."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": usable_cores(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def page(records: Sequence[Mapping[str, object]]) -> str:
    """docs/benchmarks.md."""
    packages = {name: number for record in records for name, number in dict(record["packages"]).items()}  # type: ignore[call-overload]
    rows = [_row(record) for record in records]
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Ours against what one would use instead, on the same work in the same run. `make bench REALDATA=...`",
            "writes this page. What each does stands at the top of its file in bench/, every figure in bench/results/.",
            "",
            "| benchmark | ours | instead | ratio | unit | same result | measured |",
            "|---|--:|--:|--:|---|---|---|",
            *rows,
            "",
            f"Versions: {', '.join(f'{name} {number}' for name, number in packages.items())}.",
            "",
        ]
    )


def _row(record: Mapping[str, object]) -> str:
    result = dict(record["result"])  # type: ignore[call-overload]
    figures = [f"{result[key]:,}" if isinstance(result[key], int | float) else result[key] for key in NEEDED[:3]]
    same = "yes" if result["same_result"] else "**no**"
    cores = f"{record['cores']} core{'s' if record['cores'] != 1 else ''}"
    where = f"{record['date']}, {cores}, Python {record['python']}"
    return f"| `{record['name']}` | {' | '.join(figures)} | {result['unit']} | {same} | {where} |"


def _result(printed: str) -> dict[str, object] | None:
    """The object in the last line, if it is one and says all that is needed."""
    lines = printed.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return None
    result: dict[str, object] = json.loads(lines[-1])
    return result if result.keys() >= set(NEEDED) else None


def _has_main(path: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in ast.parse(path.read_text()).body)


if __name__ == "__main__":
    main()
