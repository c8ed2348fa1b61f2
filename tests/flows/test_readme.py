"""Every command of the README: those of domainlm are typed in beside a finished build, those of make are looked up."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Built

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_readme_shows_its_two_commands_first() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("domainlm")])
def test_a_command_of_the_readme_works(command: str, built: Built, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pharmacopoeia").symlink_to(built.runtime.data)
    (tmp_path / "store" / "demo").mkdir(parents=True)
    for sealed in (built.runtime.store / "demo").glob("*-*"):  # an approval is written beside them, and not for others
        (tmp_path / "store" / "demo" / sealed.name).symlink_to(sealed)
    done = run(shlex.split(command), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("command", re.findall(r"`?(make [a-z]+)(?: REALDATA=\S+)?`?", README))
def test_a_target_of_the_readme_is_in_the_makefile(command: str) -> None:
    done = run([*shlex.split(command), "--dry-run", "REALDATA=somewhere"], ROOT)
    assert done.returncode == 0, done.stderr


def test_every_file_that_the_readme_points_to_is_there() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
