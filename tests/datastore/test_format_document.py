"""docs/format.md is enough to read our files: `format_decoder` was written from that page alone."""

import ast
import contextlib
import random
from pathlib import Path

from datastore.datafile import Position, write_data_file
from datastore.errors import StorageFailed
from datastore.journal import Journal, JournalEntry, JournalLimits, PendingSync
from datastore.keys import KeyRing, key_text, new_kek, passphrase_text
from tests.datastore import format_decoder
from tests.datastore.format_decoder import decode_data_file, decode_journal, kek_of, parse_header
from tests.datastore.sample import IDENTITY, JOURNAL, MEMBER
from tests.simulation.memory_files import MemoryFiles


def test_the_decoder_imports_none_of_ours() -> None:
    tree = ast.parse(Path(format_decoder.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} == {
        "cryptography",
        "hashlib",
        "io",
        "msgpack",
        "struct",
        "typing",
        "zlib",
    }


async def test_a_data_file_by_the_page_alone() -> None:

    chance = random.Random(3)
    files = MemoryFiles(chance)
    files.make_directory("/d")
    kek, other = new_kek(chance.randbytes), new_kek(chance.randbytes)
    keys = KeyRing(other, KeyRing.generate(kek, chance.randbytes).active, (kek,))
    records = [("tokens", bytes([n]), chance.randbytes(n * 400)) for n in range(40)] + [("users", b"k", b"v")]
    position = Position(77, 5, 1_790_000_000_000, chance.randbytes(32))
    written = write_data_file(files, "/d/mfa.data", IDENTITY, keys, chance.randbytes, 1, position, 4, records)
    data = files.contents("/d/mfa.data")
    assert len(data) > 3 * 65_552

    read_position, read_records, closing = decode_data_file(data, kek_of(key_text(kek)))
    assert read_position == [77, 5, 1_790_000_000_000, position.running_digest, 4]
    assert [tuple(record) for record in read_records] == records
    assert (closing["digest"], closing["counts"]) == (written.digest, written.counts)
    fields = parse_header(data).fields
    assert fields["cluster"].hex() == IDENTITY.cluster_id
    assert (fields["incarnation"], fields["incarnation_id"].hex()) == (1, IDENTITY.incarnation_id)


async def test_a_journal_by_the_page_alone() -> None:

    chance = random.Random(4)
    files = MemoryFiles(chance)
    files.make_directory("/node")
    keys = KeyRing.generate(new_kek(chance.randbytes), chance.randbytes)
    limits = JournalLimits(segment_bytes_max=4_000)
    journal = Journal.create(files, JOURNAL, IDENTITY, MEMBER, keys, chance.randbytes, 10, 3, limits)
    kek = kek_of(key_text(keys.kek))

    def agree(log: Journal) -> None:
        segments = {name: files.contents(f"{JOURNAL}/{name}") for name in files.list(JOURNAL)}
        held = log.entries(log.first_index, 1 << 30)
        read = decode_journal(segments, kek, MEMBER)
        assert read.base == (log.base_index, log.base_term)
        assert read.entries == [(entry.index, entry.term, entry.data) for entry in held]
        assert read.state == (log.current_term, log.voted_for or "")

    agree(journal)
    for term in range(4, 10):
        journal.set_term(term, MEMBER if term % 2 else None)
        for _ in range(8):
            journal.append(JournalEntry(chance.randbytes(150), journal.last_index + 1, term))
        journal.sync()
        journal.truncate(journal.last_index - 2)
        journal.sync()
        agree(journal)
    for _ in range(30):  # torn tails of every kind
        journal.append(JournalEntry(bytes(600), journal.last_index + 1, 9))
        journal.append(JournalEntry(b"x" * 300, journal.last_index + 1, 9))
        journal.sync()
        for _ in range(5):
            journal.append(JournalEntry(chance.randbytes(150), journal.last_index + 1, 9))
        pending = journal.begin_sync()
        assert pending is not None
        tear(files, pending)
        segments = {name: files.contents(f"{JOURNAL}/{name}") for name in files.list(JOURNAL) if "tmp" not in name}
        journal = Journal.open(files, JOURNAL, IDENTITY, keys, chance.randbytes, limits)
        assert decode_journal(segments, kek, MEMBER).entries[-1][0] == journal.last_index
        agree(journal)
    journal.install(5_000, 9)
    journal.sync()
    agree(journal)


def tear(files: MemoryFiles, pending: PendingSync) -> None:
    """Cuts the power after the bytes were written and before they are synced."""

    def before(operation: str, path: str) -> None:
        if operation == "sync":
            raise InterruptedError

    files.before = before
    with contextlib.suppress(StorageFailed):
        pending.run()
    files.crash()


async def test_a_passphrase_by_the_page_alone() -> None:

    text, kek = passphrase_text("Grüße aus Köln", random.Random(5).randbytes, 8 * 1024, 2, 1)
    assert kek_of(text, "Grüße aus Köln") == kek.key
