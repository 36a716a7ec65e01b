"""`watchword client …`: certificates for front ends, programs and people."""

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.output import ExitCode, moment
from tools.session import Session, command, group
from watchword import errors

if TYPE_CHECKING:
    from watchword.v1 import administration_pb2 as administration

NameArgument = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
COLUMNS = ("NAME", "ROLES", "STATE", "VALID UNTIL", "CREATED", "BY")
CSR_BYTES_MAX = 16 * 1024
STANDARD_INPUT = "-"

clients = group("client", "Who may call the cluster: front ends, programs and people, each with a certificate.")


class RoleName(StrEnum):
    FRONTEND = "frontend"
    HELPDESK = "helpdesk"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    CONNECTOR = "connector"


def register(app: typer.Typer) -> None:
    app.add_typer(clients)


def client_document(client: "administration.Client", now_ms: int) -> dict[str, Any]:
    """A client for --json; times are milliseconds since 1970, or null."""
    return {
        "name": client.name,
        "identity": client.identity,
        "roles": role_names(client),
        "state": state_of(client, now_ms),
        "created_ms": client.created_ms or None,
        "created_by": client.created_by or None,
        "revoked_ms": client.revoked_ms or None,
        "revoked_by": client.revoked_by or None,
        "valid_until_ms": valid_until_ms(client),
        "certificates": [
            {"serial": each.serial, "issued_ms": each.issued_ms, "valid_until_ms": each.valid_until_ms}
            for each in client.certificates
        ],
    }


def role_names(client: "administration.Client") -> list[str]:
    from watchword.v1.administration_pb2 import Role
    from watchword.verification import name_of

    return [name_of(Role, role, "ROLE_").lower() for role in client.roles]


def valid_until_ms(client: "administration.Client") -> int | None:
    """Of the certificate that lasts longest; None where it has none but those of the cluster's first day."""
    return max((each.valid_until_ms for each in client.certificates), default=None)


def state_of(client: "administration.Client", now_ms: int) -> str:
    if client.revoked_ms:
        return "revoked"
    until_ms = valid_until_ms(client)
    return "expired" if until_ms is not None and until_ms <= now_ms else "active"


def client_row(client: "administration.Client", now_ms: int) -> tuple[str, ...]:
    return (
        client.name,
        " ".join(role_names(client)),
        state_of(client, now_ms),
        moment(valid_until_ms(client) or 0),
        moment(client.created_ms),
        client.created_by.rsplit("/client/", 1)[-1],
    )


@command(clients, "add")
async def add(
    session: Session,
    name: NameArgument,
    role: Annotated[
        list[RoleName], typer.Option("--role", help="What it may do; may be given more than once.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="A new directory for profile, certificate and key (./NAME).", metavar="DIR", show_default=False
        ),
    ] = None,
    csr: Annotated[
        str | None,
        typer.Option(
            "--csr",
            help="Sign this request (PEM; - for standard input) instead of making a key; print the certificate.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
) -> ExitCode:
    """Give a front end, a program or a person a certificate.

    The private key is made on this machine, and the cluster never sees it: DIR holds client.toml, ca.pem, NAME.pem and
    NAME.key. Take the whole directory to where it is used. With --csr the key stays wherever the request was made.

    What the roles allow: frontend signs users in; helpdesk unlocks, and helps with tokens; operator changes everything;
    auditor reads; connector keeps users as a directory has them.
    """
    from watchword.v1.administration_pb2 import Role

    if out is not None and csr is not None:
        return session.output.wrong_use("--out and --csr do not go together", "choose one of them")
    roles = [Role.Value(f"ROLE_{each.name}") for each in role]
    if csr is not None:
        return await _add_with_request(session, name, roles, _read_request(csr))
    from tools.client_files import making_files

    directory = Path(name) if out is None else out
    with making_files(directory, name) as files:
        async with session.client() as client:
            try:
                answer = await client.add_client(name, roles, files.request)
            except errors.Unavailable as error:
                raise type(error)(error.message, reason=error.reason, advice=_AFTER_NO_ANSWER) from error
        files.finish(answer.certificate_chain, answer.root_certificate, session.profile().endpoints)
    document = client_document(answer.client, _now_ms())
    document["profile"] = str(directory / "client.toml")
    until = moment(valid_until_ms(answer.client) or 0)
    session.output.answer(
        document,
        f"added {name}, valid until {until}; its profile is {directory / 'client.toml'}",
        f"renew it before then: watchword client renew --profile {directory / 'client.toml'}",
    )
    return ExitCode.OK


_AFTER_NO_ANSWER = (
    "see with `watchword client list` whether it was added; then revoke it and add it again, since its key is gone"
)


async def _add_with_request(session: Session, name: str, roles: list[Any], request: bytes) -> ExitCode:
    async with session.client() as client:
        answer = await client.add_client(name, roles, request)
    document = client_document(answer.client, _now_ms())
    chain, root = answer.certificate_chain.decode(), answer.root_certificate.decode()
    session.output.answer({**document, "certificate": chain, "ca": root}, chain.rstrip("\n"))
    return ExitCode.OK


@command(clients, "list")
async def list_(session: Session) -> ExitCode:
    """List all clients, those that were revoked included.

    --json answers {"clients": [...]}.
    """
    found: list[administration.Client] = []
    page = ""
    async with session.client() as client:
        while True:
            answer = await client.list_clients(page_size=1000, page_token=page)
            found.extend(answer.clients)
            page = answer.next_page_token
            if not page:
                break
    now_ms = _now_ms()
    if session.output.as_json:
        session.output.answer({"clients": [client_document(each, now_ms) for each in found]})
    else:
        session.output.table(COLUMNS, [client_row(each, now_ms) for each in found])
    return ExitCode.OK


@command(clients, "revoke")
async def revoke(session: Session, name: NameArgument) -> ExitCode:
    """End every certificate of a client: at once, on open connections too, and for good.

    A client that is added again under the name is another one; the certificates from before stay revoked. The last
    operator can't be revoked.
    """
    async with session.client() as client:
        await client.revoke_client(name)
    session.output.answer({"name": name, "state": "revoked"}, f"revoked {name}")
    return ExitCode.OK


@command(clients, "renew")
async def renew(session: Session) -> ExitCode:
    """Renew the certificate of the profile itself, in its place; the key stays.

    For a timer, well before the end. The certificate from before stays valid to its own end.
    """
    from tools.client_files import replace_certificate, request_of

    profile = session.profile()
    async with session.client() as client:
        answer = await client.renew_client(request_of(profile.key_file))
    replace_certificate(profile.certificate_file, answer.certificate_chain)
    until_ms = valid_until_ms(answer.client)
    document = client_document(answer.client, _now_ms())
    session.output.answer(document, f"renewed {answer.client.name}, valid until {moment(until_ms or 0)}")
    return ExitCode.OK


def _read_request(file: str) -> bytes:
    try:
        if file == STANDARD_INPUT:
            request = sys.stdin.buffer.read(CSR_BYTES_MAX + 1)
        else:
            with Path(file).open("rb") as opened:
                request = opened.read(CSR_BYTES_MAX + 1)
    except OSError as error:
        raise errors.InvalidArgument(
            f"the request {file} cannot be read ({error.strerror})", field="csr", advice="name the file with --csr FILE"
        ) from error
    if len(request) > CSR_BYTES_MAX:
        raise errors.InvalidArgument(
            f"the request is larger than {CSR_BYTES_MAX} bytes", field="csr", advice="a request in PEM is about 1,000"
        )
    return request


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
