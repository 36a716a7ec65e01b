"""The figures as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

LOADS = (
    ("empty call, one server", "empty_call", "one_server"),
    ("empty call, three servers", "empty_call", "three_servers"),
)


def lines(results: dict[str, Any]) -> Iterator[str]:
    machine = results["machine"]
    yield f"{machine['cpus']} cores ({machine['processor']}), Python {machine['python']}, grpcio {machine['grpcio']};"
    yield f"everything on this one machine; load average before: {machine['load_average_before']}"
    if disk := results.get("disk"):
        yield f"\nfdatasync after 4 KiB:  p50 {disk['p50_ms']:.2f} ms  p99 {disk['p99_ms']:.2f} ms"
    yield from _loads(results)
    yield from _start_up(results.get("start_up", {}))
    if killed := results.get("leader_killed"):
        times = len(killed["times_s"])
        yield (
            f"\nleader killed {times} times: without answers for {killed['median_s']:.2f} s (median),"
            f" {killed['worst_s']:.2f} s (worst)"
        )
    if results["expectations"]:
        yield "\nexpected                                                                     measured  expected"
    for each in results["expectations"]:
        verdict = "" if each["holds"] else "FALLS SHORT"
        yield f"{each['what']:75} {each['measured']:9.2f}  {each['expected']:9} {verdict}".rstrip()


def _loads(results: dict[str, Any]) -> Iterator[str]:
    tables = [(title, results.get(part, {}).get(key)) for title, part, key in LOADS]
    tables.append(("sign-ins, three nodes", results.get("sign_in")))
    tables.append(("on streams", results.get("stream")))
    if any(table for _, table in tables):
        yield f"\n{'':26} in flight   a second    p50 ms    p99 ms   servers' cores   load generator's"
    for title, table in tables:
        for level, figures in (table or {}).items():
            yield (
                f"{title:26} {level:>9} {figures['calls_per_second']:10.0f} {figures['p50_ms']:9.2f}"
                f" {figures['p99_ms']:9.2f} {figures['server_cores']:16.2f} {figures['load_generator_cores']:18.2f}"
            )


def _start_up(start_up: dict[str, Any]) -> Iterator[str]:
    if start_up:
        heads = ("resident MiB", "private MiB", "data file MiB")
        yield f"\n{'users':>10} {'listens s':>10} {'serves s':>10} {heads[0]:>14} {heads[1]:>12} {heads[2]:>14}"
    for users, each in start_up.items():
        yield (
            f"{int(users):10,} {each['listens_s']['worst']:10.2f} {each['serves_s']['worst']:10.2f}"
            f" {each['resident_mib']['worst']:14.0f} {each['private_mib']['worst']:12.0f} {each['data_file_mib']:14.1f}"
        )
    if start_up:
        idle = max(each["idle_cores_a_node"] for each in start_up.values())
        yield f"(of three nodes started at once, the worst; a node that nobody asks takes {100 * idle:.1f} % of a core)"
