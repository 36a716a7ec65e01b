"""Programs that tests need and Debian has: installed where the tests run as root, otherwise the test is skipped."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

INSTALL_S = 300


def program(name: str, package: str) -> str:
    """The path of a program, installed with its package where it is missing; skips the test where that can't be."""
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        # Workers of one run must not install at the same time.
        with (Path(tempfile.gettempdir()) / "watchword-tests-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if shutil.which(name) is None:
                _install(package)
        found = shutil.which(name)
    if found is None:
        pytest.skip(f"machine: {name} is not there and can't be installed (Debian: apt-get install {package})")
    return found


def _install(package: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package],
    ):
        subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_S, check=False)
