"""The unit of systemd, as systemd itself reads and rates it. Needs no running systemd."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machine import command_of_package

UNIT = Path(__file__).resolve().parents[2] / "packaging" / "watchword.service"
TEMPLATE = re.compile(r"^sed -e '(?P<program>[^']+)'", re.MULTILINE)
GOOD = {"OK", "SAFE", "PERFECT"}


@pytest.fixture
def systemd_analyze() -> str:
    return command_of_package("systemd-analyze", "systemd")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def placed(directory: Path, name: str, text: str) -> Path:
    """The unit with a program that there is on this machine."""
    program = str(Path(sys.executable).parent / "watchword")
    unit = directory / name
    unit.write_text(text.replace("/opt/watchword/.venv/bin/watchword", program))
    return unit


def template() -> str:
    match = TEMPLATE.search((UNIT.parent / "README.md").read_text())
    assert match is not None
    return subprocess.run(["sed", "-e", match["program"], UNIT], capture_output=True, text=True, check=True).stdout


def test_systemd_takes_the_unit_and_the_template(systemd_analyze: str, tmp_path: Path) -> None:
    made = template()
    assert made.count("%i") >= 4
    assert "LoadCredential=watchword.kek:/etc/watchword/%i.key" in made
    for name, text in (("watchword.service", UNIT.read_text()), ("watchword@.service", made)):
        done = run(systemd_analyze, "verify", "--man=no", str(placed(tmp_path, name, text)))
        about_it = [line for line in done.stderr.splitlines() if "watchword" in line]
        assert (done.returncode, about_it) == (0, []), done.stderr


def test_a_mistake_would_be_seen(systemd_analyze: str, tmp_path: Path) -> None:
    text = UNIT.read_text().replace("WatchdogSec=", "WatchdogSecs=")
    done = run(systemd_analyze, "verify", "--man=no", str(placed(tmp_path, "watchword.service", text)))
    assert "WatchdogSecs" in done.stderr


def test_its_hardening_is_rated_ok(systemd_analyze: str, tmp_path: Path) -> None:
    unit = placed(tmp_path, "watchword.service", UNIT.read_text())
    done = run(systemd_analyze, "security", "--offline=true", "--no-pager", str(unit))
    match = re.search(r"Overall exposure level for \S+: (?P<level>[0-9.]+) (?P<verdict>[A-Z]+)", done.stdout)
    assert match is not None, done.stdout + done.stderr
    assert match["verdict"] in GOOD, done.stdout
    assert float(match["level"]) < 2.0
