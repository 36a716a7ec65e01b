"""The part of the Cluster service that is about members: who is invited, joins, leaves and leads."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias

from grpc import aio

from cluster.services import fields, limits
from cluster.services.authority import Authority, UnusableRequest
from cluster.services.deadline import budget_s
from cluster.services.gate import current_caller
from cluster.services.ports import Membership
from cluster.services.proposals import Proposals
from cluster.services.refusals import refusal
from cluster.services.status import (
    CallError,
    Reason,
    change_pending,
    invalid,
    no_invitation,
    no_such_node,
    not_filled,
    precondition,
    unavailable,
)
from cluster.state import joining, reads
from cluster.state.apply import State
from cluster.state.commands import Command, Invite, Join, RemoveMember, TransferLeadership
from cluster.state.records import INVITATION_ID_BYTES, MEMBER_ID_BYTES, Member
from cluster.state.results import Code, Result
from watchword import join_token
from watchword.v1 import cluster_pb2_grpc
from watchword.v1 import members_pb2 as messages

# ruff: noqa: N802 - methods are named as in the contract

Context: TypeAlias = aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Hosting:
    """What the node gives to its part in members: who leads, who signs, chance and its clock."""

    membership: Membership
    authority: Authority
    random_bytes: Callable[[int], bytes]


class MemberAdministration(cluster_pb2_grpc.ClusterServicer):
    """Whoever is one too sets the attributes. What is asked for goes through the log; the leader's node acts on it."""

    _proposals: Proposals
    _hosting: Hosting
    _wall_ms: Callable[[], int]

    async def Invite(self, request: messages.InviteRequest, context: Context) -> messages.InviteResponse:
        lifetime_ms = fields.within(
            "ttl_ms",
            request.ttl_ms or limits.INVITATION_MS_DEFAULT,
            limits.INVITATION_MS_MIN,
            limits.INVITATION_MS_MAX,
        )
        drawn = self._hosting.random_bytes(INVITATION_ID_BYTES)
        generated = drawn + sha256(self._secret(request.request_id, drawn)).digest()
        result = await self._proposals.change(Invite(lifetime_ms), request.request_id, context, generated)
        invitation_id, state = result.token_id, self._proposals.state
        invitation = reads.invitation(state, invitation_id)
        secret = self._secret(request.request_id, bytes.fromhex(invitation_id))
        if invitation is None or sha256(secret).digest() != invitation.secret_digest:
            raise no_invitation()
        return messages.InviteResponse(
            token=self._token(state, invitation_id, secret, invitation.expires_ms), expires_ms=invitation.expires_ms
        )

    async def Join(self, request: messages.JoinRequest, context: Context) -> messages.JoinResponse:
        if not self._proposals.state.position.index:
            raise not_filled()
        client_address, client_host = fields.node_address("client_address", request.client_address)
        peer_address, peer_host = fields.node_address("peer_address", request.peer_address)
        key = self._key_of(request.csr)
        command = Join(
            sha256(request.secret).digest(),
            sha256(key).digest(),
            fields.node_name(request.name),
            peer_address,
            client_address,
        )
        generated = self._hosting.random_bytes(MEMBER_ID_BYTES)
        result = await self._change(command, request.request_id, context, generated)
        state, member_id = self._proposals.state, result.token_id
        if member_id not in reads.members(state):
            raise _gone()
        chain = self._hosting.authority.sign_node(
            reads.issuing_key(state),
            key,
            f"watchword://{state.identity.cluster_id}/node/{member_id}",
            (client_host, peer_host),
            self._wall_ms(),
        )
        return self._welcome(state, member_id, chain, self._hosting.membership.kek_text() if request.wants_kek else "")

    async def RemoveMember(
        self, request: messages.RemoveMemberRequest, context: Context
    ) -> messages.RemoveMemberResponse:
        member_id = find_node(await self._proposals.fresh(context), request.node)
        await self._change(RemoveMember(member_id), request.request_id, context)
        until = _until(context)
        while (member := reads.members(self._proposals.state).get(member_id)) is not None:
            if not member.leaving:
                raise precondition(
                    Reason.QUORUM_AT_RISK,
                    "node",
                    "too few of the other nodes answer: without this one there would be no majority; it stays",
                    "bring the others back first (`watchword status`)",
                )
            await _look_again(until, "the node is being removed")
        return messages.RemoveMemberResponse(member_id=member_id)

    async def TransferLeadership(
        self, request: messages.TransferLeadershipRequest, context: Context
    ) -> messages.TransferLeadershipResponse:
        state = await self._proposals.fresh(context)
        wanted = find_node(state, request.node) if request.node else ""
        leader = self._hosting.membership.leader()
        if leader is None:
            raise unavailable(Reason.NO_QUORUM, "no node leads")
        if leader != wanted:
            command = TransferLeadership(wanted)
            await self._proposals.change(command, request.request_id, context, leader.encode())
        until = _until(context)
        while not self._leads(wanted):
            await _look_again(until, "nobody else leads yet")
        led_by = self._hosting.membership.leader() or ""
        member = reads.members(self._proposals.state).get(led_by)
        return messages.TransferLeadershipResponse(member_id=led_by, name=member.name if member else "")

    def _leads(self, wanted: str) -> bool:
        """Whether the one that is wanted leads; empty: any but the one that led when it was asked for."""
        leader = self._hosting.membership.leader()
        if wanted or leader is None:
            return leader is not None and leader == wanted
        wish = reads.transfer(self._proposals.state)
        return wish is None or wish.from_member != leader

    async def _change(self, command: Command, request_id: str, context: Context, generated: bytes = b"") -> Result:
        """As Proposals.change; waits while another change of members is under way, which is not remembered."""
        until = _until(context)
        client = current_caller().identity
        while True:
            left_s = max(until - asyncio.get_running_loop().time(), limits.MEMBERS_LOOK_S)
            result = await self._proposals.answer(command, request_id, client, left_s, generated)
            if result.code is not Code.STALE:
                break
            while not all(member.settled for member in reads.members(self._proposals.state).values()):
                await _look_again(until)
        refused = refusal(result)
        if refused is not None:
            raise refused
        return result

    def _secret(self, request_id: str, invitation_id: bytes) -> bytes:
        client = current_caller().identity
        return joining.secret_of(self._proposals.state, client, fields.request_id(request_id), invitation_id)

    def _token(self, state: State, invitation_id: str, secret: bytes, expires_ms: int) -> str:
        issuing, cluster_id = reads.issuing_key(state), state.identity.cluster_id
        until_ms = expires_ms + limits.INVITATION_CERTIFICATE_MS
        identity = f"watchword://{cluster_id}/join/{invitation_id}"
        chain, key = self._hosting.authority.issue_joiner(issuing, identity, until_ms, self._wall_ms())
        leader = self._hosting.membership.leader()
        # The leader first: it can answer for itself.
        members = sorted(reads.members(state).items(), key=lambda item: (item[0] != leader, item[0]))
        return join_token.encode(
            join_token.JoinToken(
                cluster_id,
                tuple(member.client_address for _, member in members if member.settled),
                issuing.root_certificate,
                chain,
                key,
                secret,
                self._hosting.membership.kek_id(),
                expires_ms,
            )
        )

    def _key_of(self, csr: bytes) -> bytes:
        if not 0 < len(csr) <= limits.CSR_BYTES_MAX:
            raise invalid("csr", f"must be 1 to {limits.CSR_BYTES_MAX:,} bytes")
        try:
            return self._hosting.authority.requested_key(csr)
        except UnusableRequest as unusable:
            raise invalid("csr", str(unusable)) from None

    @staticmethod
    def _welcome(state: State, member_id: str, chain: bytes, kek: str) -> messages.JoinResponse:
        identity = state.identity
        return messages.JoinResponse(
            cluster_id=identity.cluster_id,
            incarnation_counter=identity.incarnation_counter,
            incarnation_id=identity.incarnation_id,
            cluster_created_ms=identity.created_ms,
            command_version=identity.command_version,
            member_id=member_id,
            certificate_chain=chain,
            root_certificate=reads.issuing_key(state).root_certificate,
            members=[member_message(each, member) for each, member in reads.members(state).items()],
            kek=kek,
        )


def member_message(member_id: str, member: Member) -> messages.Member:
    return messages.Member(
        member_id=member_id,
        name=member.name,
        client_address=member.client_address,
        peer_address=member.peer_address,
        voter=member.voter,
    )


def find_node(state: State, given: str) -> str:
    """The member id of the node with that name or id, of one that was removed where there is no other.

    Raises:
        CallError: NOT_FOUND.
    """
    fields.bounded("node", given, limits.MEMBER_ADDRESS_BYTES_MAX)
    members = reads.members(state)
    if given in members or reads.was_removed(state, given):
        return given
    named = [member_id for member_id, member in members.items() if member.name == given]
    found = named[0] if named else reads.former_member(state, given)
    if found is None:
        raise no_such_node()
    return found


def _until(context: Context) -> float:
    """When the answer has to be there, by the loop's clock."""
    return asyncio.get_running_loop().time() + budget_s(context.time_remaining)


async def _look_again(until: float, pending: str = "another change of members is under way") -> None:
    if asyncio.get_running_loop().time() + limits.MEMBERS_LOOK_S >= until:
        raise change_pending(pending)
    await asyncio.sleep(limits.MEMBERS_LOOK_S)


def _gone() -> CallError:
    return precondition(
        Reason.INVITATION_SPENT,
        "secret",
        "the node was removed again",
        "ask an operator for a new token (`watchword node invite`)",
    )
