"""What all tests share: in continuous integration a test that is skipped has failed.

A skip whose reason begins with "machine:" names something that this machine cannot have (a kernel module, say), and
stays a skip.  Any other would let a promise go unchecked without anybody seeing it.
"""

import os
from collections.abc import Generator

import pytest

MACHINE = "machine:"


def is_continuous_integration() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Why a report is a skip; None where it is none, or an expected failure."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return None
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def fail_unless_excused(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where CI is set and the machine is not to blame."""
    reason = skip_reason(report)
    if reason is None or reason.startswith(MACHINE) or not is_continuous_integration():
        return
    report.outcome = "failed"
    report.longrepr = f"skipped where nothing may be: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_unless_excused(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_unless_excused(report)
    return report
