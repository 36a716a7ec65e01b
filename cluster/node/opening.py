"""From a node's files to the state it stands at, in the order that lets nothing be used before it is verified.

A node never starts empty, and never starts on less than it had: what can't be read whole is refused by name, and
nothing is changed. See DESIGN.md for what each crash leaves here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.node.directory import journal_directory, received_path
from cluster.node.errors import DataRefusedError
from cluster.state import reads
from cluster.state.apply import DamagedState, NewerState, Position, State
from cluster.state.records import Member
from datastore.datafile import DataFileReader, Generations, Identity, read_data_file
from datastore.errors import Damaged, NotFound
from datastore.files import Files
from datastore.journal import Journal
from datastore.keys import KeyEncryptionKey, KeyRing
from datastore.segment import DEFAULT_LIMITS, JournalLimits

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class DataFile:
    """What is known of the current data file."""

    position: Position
    created_ms: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OpenedNode:
    """A node's own files, verified and agreeing with each other."""

    directory: Path
    identity: Identity
    keys: KeyRing
    generations: Generations
    data_file: DataFile
    state: State
    journal: Journal

    @property
    def member_id(self) -> str:
        return self.journal.member_id

    @property
    def members(self) -> dict[str, Member]:
        return reads.members(self.state)


def open_node(
    files: Files,
    directory: Path,
    kek: KeyEncryptionKey,
    random: Random,
    keep: int,
    limits: JournalLimits = DEFAULT_LIMITS,
) -> OpenedNode:
    """Read, verify and reconcile everything.

    Raises:
        DatastoreError: a file is damaged, foreign, newer, missing, or sealed under another key.
        DataRefusedError: the files don't belong together.
    """
    files.check_directory(str(directory))
    generations = Generations(files, str(directory), keep=keep)
    generations.recover()
    opening_keys = KeyRing.generate(kek, random)
    state, data_file, reader = _load_current(files, generations, opening_keys)
    keys = KeyRing(kek, reader.data_key)
    journal = Journal.open(files, journal_directory(directory), reader.identity, keys, random, limits)
    opened = OpenedNode(directory, reader.identity, keys, generations, data_file, state, journal)
    try:
        opened = _finish_installation(files, opened)
        check_reconciled(opened.data_file.position, journal, generations.path)
    except BaseException:
        journal.close()
        raise
    return opened


def load_state(reader: DataFileReader, path: str) -> State:
    """The whole state in a data file; the file is wholly verified once this returns.

    Raises:
        DatastoreError: the file is not whole.
        DataRefusedError: its records are not a state.
    """
    try:
        return State.load(reader.position, reader.records())
    except NewerState as error:
        raise DataRefusedError(f"{path}: was written by a newer version ({error}); install that version") from error
    except DamagedState as error:
        raise DataRefusedError(f"{path}: its records contradict each other ({error}); use an older copy") from error


def check_reconciled(at: Position, journal: Journal, path: str) -> None:
    """Overlap of data file and journal is normal; a gap is damage.

    Raises:
        DataRefusedError: the journal doesn't continue the data file.
    """
    way_out = "put back the files that belong together, or remove this member and let the node join as a new one"
    if at.index < journal.base_index:
        raise DataRefusedError(
            f"{path}: ends at entry {at.index}, the journal begins after {journal.base_index}: entries are missing"
            f" between them; {way_out}"
        )
    if at.index > journal.last_index:
        raise DataRefusedError(
            f"{path}: stands at entry {at.index}, the journal ends at {journal.last_index}: the journal lost entries"
            f" that this node had; {way_out}"
        )
    if journal.term_at(at.index) != at.term:
        raise DataRefusedError(
            f"{path}: entry {at.index} is of term {at.term}, in the journal of {journal.term_at(at.index)}: they are"
            f" not of one history; {way_out}"
        )


def _load_current(files: Files, generations: Generations, keys: KeyRing) -> tuple[State, DataFile, DataFileReader]:
    path = generations.path
    try:
        return load_data_file(files, path, keys, None)
    except NotFound as error:
        raise DataRefusedError(
            f"{path}: this node has no data file; restore it, or let the node join as a new member"
        ) from error
    except (Damaged, DataRefusedError) as error:
        good = [older.path for older in generations.older() if _is_good(files, older.path, keys)]
        if not good:
            raise
        raise DataRefusedError(
            f"{error}. Last known good: {', '.join(good)}; move {path} away, rename {good[0]} to it and start again:"
            " the journal has what came after"
        ) from error


def load_data_file(
    files: Files, path: str, keys: KeyRing, expected: Identity | None
) -> tuple[State, DataFile, DataFileReader]:
    """A data file's state and what is known of it; the reader is read to its end."""
    with read_data_file(files, path, keys, expected) as reader:
        state = load_state(reader, path)
        identity = state.identity
        if (identity.cluster_id, identity.incarnation_counter, identity.incarnation_id) != (
            reader.identity.cluster_id,
            reader.identity.incarnation_counter,
            reader.identity.incarnation_id,
        ):
            raise DataRefusedError(f"{path}: its header and its contents name different clusters; use another copy")
    return state, DataFile(state.position, reader.created_ms, size_of(files, path)), reader


def size_of(files: Files, path: str) -> int:
    file = files.open(path, writable=False)
    try:
        return file.size()
    finally:
        file.close()


def _is_good(files: Files, path: str, keys: KeyRing) -> bool:
    try:
        load_data_file(files, path, keys, None)
    except (Damaged, DataRefusedError, NotFound):
        return False
    return True


def _finish_installation(files: Files, opened: OpenedNode) -> OpenedNode:
    """Publish a snapshot whose journal is on disk already, or drop one whose journal never got there."""
    path = received_path(opened.directory)
    if not files.exists(path):
        return opened
    if opened.journal.base_index <= opened.data_file.position.index:
        files.remove(path)
        files.sync_directory(str(opened.directory))
        return opened
    state, data_file, _ = load_data_file(files, path, opened.keys, opened.identity)
    check_reconciled(data_file.position, opened.journal, path)
    opened.generations.publish(path)
    return OpenedNode(
        opened.directory, opened.identity, opened.keys, opened.generations, data_file, state, opened.journal
    )
