"""Programs of the distribution that tests use; installed where that can be done, and otherwise a skip that says so."""

import os
import shutil
import subprocess

import pytest

SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"])


def command_of_package(command: str, package: str) -> str:
    """The path of a command of a Debian package."""
    found = shutil.which(command, path=SEARCHED)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(package)
        found = shutil.which(command, path=SEARCHED)
    if found is None:
        pytest.skip(f"machine: no {command} (Debian package {package})")
    return found


def _install(package: str) -> None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wait = ["-o", "DPkg::Lock::Timeout=120"]
    install = ["apt-get", *wait, "install", "-y", "-q", "--no-install-recommends", package]
    for command in (install, ["apt-get", *wait, "update", "-q"], install):
        if subprocess.run(command, env=quiet, capture_output=True, timeout=300, check=False).returncode == 0 and (
            command is install
        ):
            return
