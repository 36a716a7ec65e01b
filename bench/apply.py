"""Measures the replicated state alone: time of apply, of a snapshot and of loading, and memory.

    python bench/apply.py [--users 100000] [--json FILE]

One process, no disk and no network. Each user has one TOTP token and signs in once, in entries of 32 verifications
in groups of 8; then a part of them types a wrong code. Times a command are medians over the entries; one HMAC-SHA-1 of
the standard library, measured in the same run, tells how fast the machine was.
"""

import argparse
import hmac
import json
import resource
import statistics
import sys
import time
import timeit
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cluster.state.apply import State
from cluster.state.codec import pack, pack_group
from cluster.state.commands import AddToken, AddUser, ResyncToken, Verify
from cluster.state.genesis import genesis
from cluster.state.records import ClusterIdentity, IssuingKey, Member, Role, TokenType
from cluster.state.results import Decision
from factors.otp import Algorithm, Otp, code_at

CLUSTER_ID = "ab" * 16
CLIENT = f"watchword://{CLUSTER_ID}/client/bench"
START_MS = 1_700_000_000_000


def resident_mib() -> float:
    with Path("/proc/self/statm").open(encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 2**20


def empty_state() -> State:
    return genesis(
        cluster=ClusterIdentity(CLUSTER_ID, 1, "cd" * 16, START_MS),
        members={"ef" * 16: Member("node-1", "127.0.0.1:7001", "127.0.0.1:7000")},
        roles={CLIENT: [Role.OPERATOR, Role.FRONTEND]},
        issuing_key=IssuingKey(b"", b"", b""),
        digest_key=bytes(32),
    )


def secret_of(user: int) -> bytes:
    return user.to_bytes(20, "big")


def entries(commands: list[bytes], size: int = 32, group: int = 8) -> Iterator[list[bytes]]:
    for start in range(0, len(commands), size):
        entry = commands[start : start + size]
        yield [pack_group(entry[place : place + group]) for place in range(0, len(entry), group)]


def run(state: State, commands: list[bytes], now_ms: int, accepted: int | None = None) -> float:
    """Apply them all; microseconds a command, the median over the entries."""
    found = 0
    took_us = []
    for payloads in entries(commands):
        started = time.perf_counter()
        results = state.apply(state.position.index + 1, 1, now_ms, payloads)
        count = sum(map(len, results))
        took_us.append((time.perf_counter() - started) / count * 1e6)
        found += sum(result.decision is Decision.ACCEPT for group in results for result in group)
    assert accepted in (None, found), f"{found} accepted, {accepted} expected"
    return statistics.median(took_us)


def enrol(state: State, users: int) -> None:
    for start in range(0, users, 1000):
        batch = range(start, min(start + 1000, users))
        added = [pack(AddUser(f"user{user:06}"), request_id=f"u{user}", client=CLIENT) for user in batch]
        tokens = [
            pack(
                AddToken(f"user{user:06}", TokenType.TOTP, secret=secret_of(user)),
                request_id=f"t{user}",
                client=CLIENT,
                generated=user.to_bytes(10, "big"),
            )
            for user in batch
        ]
        # A minute and a half of log time a thousand, so that request ids of the enrolment are forgotten.
        run(state, added + tokens, START_MS + start * 90)


def hmac_us() -> float:
    times = timeit.repeat(lambda: hmac.digest(bytes(20), bytes(8), "sha1"), number=10_000, repeat=5)
    return statistics.median(times) / 10_000 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    users: int = options.users
    figures: dict[str, float] = {"users": users, "hmac_sha1_us": hmac_us()}

    state = empty_state()
    before = resident_mib()
    enrol(state, users)
    figures["memory_users_and_tokens_mib"] = resident_mib() - before

    now_ms = START_MS + users * 90 + 120_000
    step = now_ms // 30_000
    right = [
        pack(
            Verify(f"user{user:06}", code_at(Otp(secret_of(user), Algorithm.SHA1, 6), step), "", "vpn", "192.0.2.1"),
            request_id=f"v{user}",
            client=CLIENT,
        )
        for user in range(users)
    ]
    before = resident_mib()
    figures["verify_accepted_us"] = run(state, right, now_ms, users)
    figures["memory_one_attempt_and_request_id_each_mib"] = resident_mib() - before
    figures["verify_repeated_us"] = run(state, right, now_ms)
    wrong = [
        pack(Verify(f"user{user:06}", "000000", "", "vpn", "192.0.2.1"), request_id=f"w{user}", client=CLIENT)
        for user in range(min(users, 20_000))
    ]
    figures["verify_rejected_us"] = run(state, wrong, now_ms + 61_000)
    pair = [
        pack(ResyncToken(f"{'a' * 16}", "000000", "000000"), request_id="r0", client=CLIENT),
    ]
    figures["resync_us"] = run(state, pair, now_ms + 61_000)

    started = time.perf_counter()
    snapshot = state.snapshot()
    figures["snapshot_ms"] = (time.perf_counter() - started) * 1e3
    records = list(snapshot.records())
    started = time.perf_counter()
    State.load(snapshot.position, records)
    figures["load_s"] = time.perf_counter() - started
    figures["records"] = len(records)

    for name, value in figures.items():
        print(f"{name:45} {value:12.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
