"""The synchronous face: the same answers and errors, from any thread."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.services import status as answers
from tests.client.fake_cluster import FakeCluster
from watchword import errors
from watchword.blocking import BlockingClient
from watchword.client import Client
from watchword.v1 import authentication_pb2 as authentication


def test_answers_and_errors_are_the_clients(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    node.answers["Verify"] = [authentication.VerifyResponse(decision=authentication.DECISION_ACCEPT)]
    node.answers["GetUser"] = [answers.no_such_user()]
    with BlockingClient(fake_cluster.profile()) as client:
        assert client.verify("alice", "123456").accepted
        with pytest.raises(errors.NotFound):
            client.get_user("nobody")
    client.close()  # a second time does nothing


def test_threads_share_one_client(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    node.answers["Verify"] = [
        lambda request: authentication.VerifyResponse(
            decision=authentication.DECISION_ACCEPT if request.passcode == "1" else authentication.DECISION_REJECT
        )
    ]
    with BlockingClient(fake_cluster.profile()) as client, ThreadPoolExecutor(8) as pool:
        decisions = list(pool.map(lambda number: client.verify("alice", str(number % 2)).accepted, range(40)))
    assert decisions == [bool(number % 2) for number in range(40)]


def test_every_call_of_the_client_has_its_face() -> None:
    calls = {name for name, value in vars(Client).items() if callable(value) and not name.startswith("_")} - {"close"}
    assert {name for name in calls if hasattr(BlockingClient, name)} == calls
