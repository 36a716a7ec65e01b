"""docs/metrics.md, docs/alerts.yml and what a node really exports, held together; the rules by Prometheus' own tool."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cluster.node.metrics.exposition import Exposition, PeerReading, Readings
from cluster.node.metrics.instruments import Histogram, Measures
from tests.debian_packages import program

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = (ROOT / "docs/metrics.md").read_text()
ALERTS = (ROOT / "docs/alerts.yml").read_text()
NAME = re.compile(r"\b(?:watchword|process)_[a-z_]+\b")


def page() -> bytes:
    """A page with something in each metric."""
    measures = Measures()
    measures.called("/watchword.v1.Authentication/Verify", "OK", 0.01)
    measures.called("/watchword.v1.Authentication/VerifyStream", "OK", None)
    values: dict[str, Any] = {field.name: 1 for field in dataclasses.fields(Readings)}
    peer = PeerReading(name="node-2", connected=True, lag=3, clock_offset_ms=-4)
    values.update(version="1.0", role="leader", peers=[peer], calls_in_flight={"watchword.v1.Cluster": 2})
    return Exposition(measures, lambda: Readings(**values)).page()


def exported() -> set[str]:
    """The names that Prometheus stores a series under, without the parts of histograms."""
    found = set()
    for family in text_string_to_metric_families(page().decode()):
        found.add(family.name + ("_total" if family.type == "counter" else ""))
    return found


def promtool(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    command = [program("promtool", "prometheus"), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT, timeout=60, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_the_document_has_every_metric_and_no_other() -> None:
    rows = "\n".join(line for line in DOCUMENT.splitlines() if line.startswith(("| `watchword_", "| `process_")))
    assert set(NAME.findall(rows)) - exported() == set()
    assert exported() - set(NAME.findall(rows)) == set()


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    expressions = "\n".join(line for line in ALERTS.splitlines() if " expr:" in line)
    asked = {name.removesuffix("_bucket") for name in NAME.findall(expressions)}
    assert len(asked) > 15
    assert asked <= exported()


def test_prometheus_takes_the_rules() -> None:
    names = re.findall(r"- alert: (\w+)", ALERTS)
    code, output = promtool("check", "rules", "docs/alerts.yml")
    assert code == 0, output
    assert f"{len(names)} rules found" in output


def test_each_rule_is_set_off_by_what_it_is_for_and_none_by_a_cluster_that_is_well() -> None:
    cases = (ROOT / "tests/alerts_test.yml").read_text()
    assert set(re.findall(r"- alert: (\w+)", ALERTS)) == set(re.findall(r'alertname="(\w+)"', cases))
    code, output = promtool("test", "rules", "tests/alerts_test.yml")
    assert code == 0, output


def test_prometheus_finds_nothing_wrong_with_the_page() -> None:
    _, output = promtool("check", "metrics", stdin=page())
    # Days are what certificates are counted in, by whoever renews them.
    assert output in {"", 'watchword_certificate_days_left use base unit "seconds" instead of "days"\n'}


def test_a_histogram_counts_each_value_once_in_the_first_bucket_that_holds_it() -> None:
    histogram = Histogram((1, 2, 4))
    for value in (0.5, 1, 1.5, 4, 100):
        histogram.observe(value)
    assert histogram.buckets() == [("1", 2.0), ("2", 3.0), ("4", 4.0), ("+Inf", 5.0)]
    assert histogram.total == 107
