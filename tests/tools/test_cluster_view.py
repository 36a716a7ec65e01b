"""What endpoints say adds up to one picture."""

import pytest

from tools.cluster_view import view_of
from watchword.errors import NoConnection
from watchword.v1 import cluster_pb2 as cluster

LEADER, FOLLOWER = cluster.NODE_ROLE_LEADER, cluster.NODE_ROLE_FOLLOWER
GONE = NoConnection("no connection")


def node(number: int, role: int, **more: int) -> cluster.NodeStatus:
    return cluster.NodeStatus(
        id=f"node-{number}",
        member_id=f"{number}" * 32,
        address=f"h{number}:1",
        role=role,  # type: ignore[arg-type]
        voter=True,
        **more,  # type: ignore[arg-type]
    )


def answer(of: cluster.NodeStatus, *peers: cluster.NodeStatus, **more: object) -> cluster.GetStatusResponse:
    fields = {"quorum": True, "failure_tolerance": 1, "leader": "node-1", **more}
    response = cluster.GetStatusResponse(node=of, peers=peers, **fields)  # type: ignore[arg-type]
    if not response.incarnation.counter:
        response.incarnation.counter = 1
    return response


def healthy() -> dict[str, cluster.GetStatusResponse | NoConnection]:
    first, second, third = (node(n, LEADER if n == 1 else FOLLOWER, term=2, commit_index=9) for n in (1, 2, 3))
    return {
        "h1:1": answer(first, second, third),
        "h2:1": answer(second, first, third),
        "h3:1": answer(third, first, second),
    }


def test_a_whole_cluster() -> None:
    view = view_of(healthy())
    assert (view.quorum, view.failure_tolerance, view.leader) == (True, 1, "node-1")
    assert [(row["id"], row["role"]) for row in view.nodes] == [
        ("node-1", "leader"),
        ("node-2", "follower"),
        ("node-3", "follower"),
    ]
    assert view.headline() == "the cluster can lose 1 more node"
    document = view.document()
    assert list(document) == ["quorum", "failure_tolerance", "leader", "nodes", "leases"]
    assert {
        "id",
        "member_id",
        "address",
        "role",
        "term",
        "commit_index",
        "applied_index",
        "digest",
        "digest_index",
    } <= (document["nodes"][0].keys())
    assert document["nodes"][0]["commit_index"] == 9
    assert document["nodes"][0]["applied_index"] is None


def test_a_node_that_does_not_answer_is_unreachable_whatever_others_say() -> None:
    view = view_of({**healthy(), "h3:1": GONE})
    assert view.nodes[2]["role"] == "unreachable"
    assert view.nodes[2]["id"] == "node-3"
    assert view.nodes[2]["term"] == 2


def test_a_node_that_was_not_asked_is_as_the_best_informed_says() -> None:
    first = healthy()["h1:1"]
    view = view_of({"h1:1": first})
    assert [row["role"] for row in view.nodes] == ["leader", "follower", "follower"]


def test_a_node_is_believed_about_itself() -> None:
    answers = healthy()
    answers["h2:1"] = answer(node(2, cluster.NODE_ROLE_CANDIDATE, term=2), quorum=False, leader="")
    view = view_of(answers)
    assert view.nodes[1]["role"] == "candidate"
    assert view.quorum


def test_the_latest_term_knows_who_leads() -> None:
    answers = healthy()
    answers["h2:1"] = answer(node(2, LEADER, term=3), leader="node-2", failure_tolerance=0)
    view = view_of(answers)
    assert (view.leader, view.failure_tolerance) == ("node-2", 0)
    assert "can lose no node" in view.headline()


def test_without_a_quorum_nothing_may_be_lost() -> None:
    view = view_of({"h1:1": answer(node(1, cluster.NODE_ROLE_CANDIDATE), quorum=False), "h2:1": GONE, "h3:1": GONE})
    assert (view.quorum, view.failure_tolerance, view.leader) == (False, 0, None)
    assert view.headline().startswith("NO QUORUM")


def test_nobody_answers() -> None:
    view = view_of({"h1:1": GONE, "h2:1": GONE})
    assert not view.quorum
    assert [(row["id"], row["role"], row["address"]) for row in view.nodes] == [
        ("h1:1", "unreachable", "h1:1"),
        ("h2:1", "unreachable", "h2:1"),
    ]


def test_an_older_incarnation_is_not_believed() -> None:
    answers = healthy()
    old = answer(node(3, LEADER, term=99), leader="node-3", incarnation=cluster.Incarnation(counter=1))
    for name in ("h1:1", "h2:1"):
        response = answers[name]
        assert isinstance(response, cluster.GetStatusResponse)
        response.incarnation.counter = 2
    view = view_of({**answers, "h3:1": old})
    assert view.leader == "node-1"
    assert view.left_out == ("h3:1",)


@pytest.mark.parametrize(("role", "word"), [(cluster.NODE_ROLE_NON_VOTER, "non-voter"), (0, "unreachable")])
def test_roles_have_the_words_that_others_rely_on(role: int, word: str) -> None:
    assert view_of({"h1:1": answer(node(1, role))}).nodes[0]["role"] == word
