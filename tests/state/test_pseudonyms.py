"""Whom an event concerns is told by a keyed pseudonym, and changes about other things by their subject."""

import msgspec

from cluster.state.pseudonyms import Pseudonyms
from cluster.state.results import ChangeEvent, Event, Reason
from tests.state.fixtures import new_state, reloaded


def test_a_pseudonym_depends_on_the_name_and_the_clusters_key_and_shows_neither() -> None:
    one, other = Pseudonyms(bytes(32)), Pseudonyms(b"\1" * 32)
    assert one.of("alice") == one.of("alice") == one.digest(b"alice").hex()
    assert len({one.of("alice"), one.of("bob"), other.of("alice")}) == 3
    assert len(one.of("alice")) == 32
    assert "alice" not in one.of("alice")


def test_it_stays_over_a_snapshot() -> None:
    state = new_state()
    assert reloaded(state).pseudonyms.of("alice") == state.pseudonyms.of("alice")


def test_an_event_with_a_subject_leaves_the_packing_of_the_others_as_it_was() -> None:
    """What is packed goes into the running digest, which nodes of two versions compare."""
    assert len(msgspec.msgpack.decode(msgspec.msgpack.encode(Event("verify", "c", "r", "u", "t", Reason.WRONG)))) == 8
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ChangeEvent("x", "c", "r", subject="s")))[-1] == "s"
