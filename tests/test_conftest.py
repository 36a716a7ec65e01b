"""A skipped test fails in continuous integration, unless the machine is to blame."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")

SKIPS = {
    "excused": "import pytest\n@pytest.mark.skip(reason='machine: no netem')\ndef test_it(): pass\n",
    "marked": "import pytest\n@pytest.mark.skip(reason='later')\ndef test_it(): pass\n",
    "called": "import pytest\ndef test_it(): pytest.skip('later')\n",
    "module": "import pytest\npytest.skip('later', allow_module_level=True)\n",
}


def run_pytest(directory: Path, source: str, continuous_integration: bool) -> int:
    (directory / "conftest.py").write_text(CONFTEST.read_text())
    (directory / "test_it.py").write_text(source)
    (directory / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "PYTEST_"))}
    if continuous_integration:
        environment["CI"] = "true"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(directory)]
    return subprocess.run(command, env=environment, cwd=directory, capture_output=True, check=False).returncode


@pytest.mark.parametrize("name", ["marked", "called", "module"])
def test_a_skip_fails_in_continuous_integration(tmp_path: Path, name: str) -> None:
    assert run_pytest(tmp_path, SKIPS[name], continuous_integration=True) != 0


def test_a_skip_that_the_machine_causes_stays_one(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, SKIPS["excused"], continuous_integration=True) == 0


def test_a_skip_is_allowed_on_a_developers_machine(tmp_path: Path) -> None:
    assert run_pytest(tmp_path, SKIPS["called"], continuous_integration=False) == 0
