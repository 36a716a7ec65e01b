"""`watchword client …` against a fake node that signs as a cluster does."""

import io
import json
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from cluster.node.authority import IssuingAuthority
from cluster.node.certificates import client_identity, make_issuing, make_root, sign_client
from cluster.services import status as answers
from cluster.services.status import Reason
from tests.client.fake_cluster import FakeCluster, FakeNode
from tools.client_files import making_files, profile_text, replace_certificate
from tools.main import run
from watchword.credentials import load_credentials
from watchword.errors import CredentialsError, InvalidArgument
from watchword.profile import load_profile
from watchword.v1 import administration_pb2 as administration

CLUSTER_ID = "c0" * 16
NOW_MS = time.time_ns() // 1_000_000
DAY_MS = 86_400_000
ROOT = make_root(CLUSTER_ID, NOW_MS)
ISSUING = make_issuing(ROOT, CLUSTER_ID, NOW_MS)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def node(fake_cluster: FakeCluster) -> FakeNode:
    return fake_cluster.start(1)[0]


@pytest.fixture
def watchword(
    fake_cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    node: FakeNode,
    tmp_path: Path,
) -> Run:
    """Runs a command line in an empty directory: exit code, standard output, standard error."""
    monkeypatch.setenv("WATCHWORD_PROFILE", str(fake_cluster.profile_path().absolute()))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def watchword(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run(arguments)
        output = capsys.readouterr()
        return code, output.out, output.err

    return watchword


def signed(csr: bytes, name: str) -> bytes:
    key = serialization.load_der_public_key(IssuingAuthority().requested_key(csr))
    return sign_client(
        ISSUING,
        key,  # type: ignore[arg-type]
        identity=client_identity(CLUSTER_ID, name).uri,
        serial=7,
        issued_ms=NOW_MS,
        until_ms=NOW_MS + 730 * DAY_MS,
    )


def client_of(name: str, **fields: Any) -> administration.Client:
    certificate = administration.Certificate(serial="07", issued_ms=NOW_MS, valid_until_ms=NOW_MS + 730 * DAY_MS)
    return administration.Client(
        name=name,
        identity=f"watchword://{CLUSTER_ID}/client/{name}",
        roles=[administration.ROLE_FRONTEND],
        created_ms=NOW_MS,
        created_by=f"watchword://{CLUSTER_ID}/client/boss",
        certificates=[certificate],
        **fields,
    )


def sign(request: administration.AddClientRequest) -> administration.AddClientResponse:
    return administration.AddClientResponse(
        client=client_of(request.name),
        certificate_chain=signed(request.csr, request.name),
        root_certificate=ROOT.chain_pem,
    )


def test_add_writes_a_profile_that_can_be_used(watchword: Run, node: FakeNode) -> None:
    node.answers["AddClient"] = [sign]
    code, out, err = watchword(
        "client", "add", "radius", "--role", "frontend", "--role", "auditor", "--out", "radius.d"
    )
    assert (code, err) == (0, "")
    assert "radius.d/client.toml" in out
    (request,) = node.asked("AddClient")
    assert list(request.roles) == [administration.ROLE_FRONTEND, administration.ROLE_AUDITOR]
    assert b"PRIVATE" not in request.SerializeToString()
    directory = Path("radius.d")
    assert sorted(path.name for path in directory.iterdir()) == ["ca.pem", "client.toml", "radius.key", "radius.pem"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    moved = directory.rename("elsewhere")
    profile = load_profile(moved / "client.toml")
    assert profile.endpoints == (node.endpoint,)
    assert profile.kek_file is None
    from datetime import UTC, datetime

    credentials = load_credentials(profile, datetime.now(UTC))
    assert credentials.ca == ROOT.chain_pem
    assert [path.name for path in Path().iterdir()] == ["elsewhere"], "nothing is left beside it"


def test_add_has_a_directory_of_the_name_where_none_is_named(watchword: Run, node: FakeNode) -> None:
    node.answers["AddClient"] = [sign]
    code, out, _ = watchword("client", "add", "radius", "--role", "frontend", "--json")
    document = json.loads(out)
    assert code == 0
    assert (document["name"], document["roles"], document["state"]) == ("radius", ["frontend"], "active")
    assert document["profile"] == "radius/client.toml"
    assert document["valid_until_ms"] == NOW_MS + 730 * DAY_MS
    assert (Path("radius") / "radius.key").exists()


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (answers.client_exists(), 1, "revoke that one first"),
        (answers.not_allowed(), 2, "NOT_ALLOWED"),
        (answers.unavailable(Reason.NO_QUORUM, "no majority of the nodes answers"), 3, "client list"),
        (answers.internal(), 4, "INTERNAL"),
    ],
)
def test_add_that_fails_leaves_no_files(watchword: Run, node: FakeNode, answer: Any, code: int, says: str) -> None:
    node.answers["AddClient"] = [answer]
    got, out, err = watchword("--json", "client", "add", "radius", "--role", "frontend")
    assert (got, out) == (code, "")
    assert says in err
    assert list(Path().iterdir()) == []


def test_add_asks_nothing_where_it_could_not_write(watchword: Run, node: FakeNode, tmp_path: Path) -> None:
    Path("full").mkdir()
    Path("full/letter").write_text("dear")
    for arguments in (["radius", "--out", "full"], ["radius", "--out", "no/such/parent"], ["ca"], ["a/b"], [".."]):
        code, out, err = watchword("client", "add", *arguments, "--role", "frontend")
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
    assert node.requests == []
    assert [path.name for path in Path("full").iterdir()] == ["letter"]


def test_add_signs_a_request_that_was_made_elsewhere(watchword: Run, node: FakeNode, tmp_path: Path) -> None:
    node.answers["AddClient"] = [sign]
    with making_files(tmp_path / "x", "radius") as files:
        request = files.request
    Path("radius.csr").write_bytes(request)
    code, out, _ = watchword("client", "add", "radius", "--role", "frontend", "--csr", "radius.csr")
    assert code == 0
    assert len(x509.load_pem_x509_certificates(out.encode())) == 2
    code, out, _ = watchword("client", "add", "radius", "--role", "frontend", "--csr", "-", "--json", stdin=request)
    document = json.loads(out)
    assert code == 0
    assert document["ca"] == ROOT.chain_pem.decode()
    assert document["certificate"].startswith("-----BEGIN CERTIFICATE-----")
    assert [path.name for path in Path().iterdir()] == ["radius.csr"]


def test_add_refuses_a_request_that_is_none(watchword: Run, node: FakeNode) -> None:
    node.answers["AddClient"] = [answers.invalid("csr", "must be a certificate signing request in PEM")]
    Path("huge.csr").write_bytes(b"x" * 20_000)
    Path("small.csr").write_bytes(b"x")
    for file in ("huge.csr", "small.csr", "none.csr"):
        code, out, err = watchword("client", "add", "radius", "--role", "frontend", "--csr", file)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
    both = watchword("client", "add", "radius", "--role", "frontend", "--csr", "small.csr", "--out", "x")
    assert both[0] == 2
    assert len(node.requests) == 1


@pytest.mark.parametrize("arguments", [["radius"], ["radius", "--role", "king"]])
def test_add_needs_a_role_that_there_is(watchword: Run, node: FakeNode, arguments: list[str]) -> None:
    code, out, err = watchword("client", "add", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("watchword: ")
    assert node.requests == []


def test_list_has_all_pages_and_says_what_state_each_is_in(watchword: Run, node: FakeNode) -> None:
    first = administration.ListClientsResponse(clients=[client_of("radius")], next_page_token="more")
    gone = client_of("vpn", revoked_ms=NOW_MS, revoked_by=f"watchword://{CLUSTER_ID}/client/boss")
    over = client_of("old")
    over.certificates[0].valid_until_ms = NOW_MS - 1
    founder = administration.Client(name="developer", roles=[administration.ROLE_OPERATOR])
    second = administration.ListClientsResponse(clients=[gone, over, founder])
    node.answers["ListClients"] = [first, second]
    code, out, _ = watchword("client", "list", "--json")
    document = json.loads(out)
    assert code == 0
    assert [(each["name"], each["state"]) for each in document["clients"]] == [
        ("radius", "active"),
        ("vpn", "revoked"),
        ("old", "expired"),
        ("developer", "active"),
    ]
    assert document["clients"][3]["valid_until_ms"] is None
    assert document["clients"][0]["certificates"] == [
        {"serial": "07", "issued_ms": NOW_MS, "valid_until_ms": NOW_MS + 730 * DAY_MS}
    ]
    node.answers["ListClients"] = [second]
    code, out, _ = watchword("client", "list")
    assert out.splitlines()[1].split("\t")[:3] == ["vpn", "frontend", "revoked"]


def test_revoke(watchword: Run, node: FakeNode) -> None:
    node.answers["RevokeClient"] = [administration.RevokeClientResponse()]
    assert watchword("client", "revoke", "radius") == (0, "revoked radius\n", "")
    assert node.asked("RevokeClient")[0].name == "radius"
    for answer in (answers.no_such_client(), answers.precondition(Reason.LAST_OPERATOR, "name", "the last", "add one")):
        node.answers["RevokeClient"] = [answer]
        assert watchword("client", "revoke", "radius")[0] == 1


def test_renew_puts_a_new_certificate_in_the_place_of_the_old(
    watchword: Run, node: FakeNode, fake_cluster: FakeCluster
) -> None:
    profile = load_profile(fake_cluster.profile_path())
    before, key = profile.certificate_file.read_bytes(), profile.key_file.read_bytes()
    node.answers["RenewClient"] = [
        lambda request: administration.RenewClientResponse(
            client=client_of("alice"), certificate_chain=signed(request.csr, "alice"), root_certificate=ROOT.chain_pem
        )
    ]
    code, out, _ = watchword("client", "renew")
    assert code == 0
    assert out.startswith("renewed alice, valid until ")
    after = profile.certificate_file.read_bytes()
    assert after != before
    assert profile.key_file.read_bytes() == key
    old, new = x509.load_pem_x509_certificate(before), x509.load_pem_x509_certificate(after)
    assert old.public_key() == new.public_key()


def test_a_certificate_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="cannot be replaced"):
        replace_certificate(tmp_path / "nowhere" / "a.pem", b"new")
    file = tmp_path / "a.pem"
    file.write_bytes(b"old")
    replace_certificate(file, b"new")
    assert file.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.pem"]


def test_a_disk_that_fails_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def make() -> None:
        with making_files(tmp_path / "radius", "radius") as files:
            monkeypatch.setattr("os.fsync", full)
            files.finish(b"chain", b"root", ["a:1"])

    with pytest.raises(InvalidArgument, match="cannot be written"):
        make()
    assert list(tmp_path.iterdir()) == []


def test_a_profile_names_its_files_beside_itself() -> None:
    assert profile_text(["a:1", "[::1]:2"], "radius") == (
        'endpoints = ["a:1","[::1]:2"]\nca_file = "ca.pem"\ncertificate_file = "radius.pem"\nkey_file = "radius.key"\n'
    )
