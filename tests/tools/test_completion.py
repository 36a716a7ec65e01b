"""What a shell is told when somebody presses Tab, by the real process; and that every command's help is a manual."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tools.main import application

COMMAND = [sys.executable, "-P", "-m", "tools.main"]


def complete(*words: str) -> list[str]:
    environment = {
        **os.environ,
        "_WATCHWORD_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["watchword", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sta"], ["status"]),
        (["config", ""], ["check"]),
        (["token", "re"], ["recovery", "resync"]),
        (["diagnose", "--conf"], ["--config"]),
    ],
)
def test_what_is_offered(words: list[str], offered: list[str]) -> None:
    assert sorted(complete(*words)) == offered


def test_the_script_for_bash_is_one(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("machine: no bash")
    environment = {**os.environ, "_WATCHWORD_COMPLETE": "source_bash"}
    script = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60, check=False).stdout
    assert "complete -o default" in script
    assert subprocess.run([bash, "-n"], input=script, text=True, timeout=60, check=False).returncode == 0


def commands(app: typer.Typer, *before: str) -> Iterator[tuple[str, str]]:
    """Every command with its help."""
    for each in app.registered_commands:
        yield " ".join([*before, each.name or ""]), each.help or ""
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, *before, str(group.typer_instance.info.name))


def test_every_command_says_what_it_does_in_a_sentence() -> None:
    found = dict(commands(application()))
    assert {"status", "serve", "config check", "diagnose", "user add"} <= set(found)
    assert [
        name for name, text in found.items() if len(text) < 20 or not text.split("\n")[0].rstrip().endswith(".")
    ] == []


def test_every_command_is_in_the_documentation() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "command-line.md").read_text()
    headings = [line for line in page.splitlines() if line.startswith(("### ", "Also "))] + page.split("`")
    for name in dict(commands(application())):
        *group, last = name.split()
        there = any(last in line.replace("|", " ").split() and all(word in line for word in group) for line in headings)
        assert there, f"docs/command-line.md says nothing of {name}"
