"""The Administration service: users and their tokens; clients, codes and settings are in modules of their own."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from grpc import aio

from cluster.services import fields, limits
from cluster.services.authority import Authority
from cluster.services.clients import ClientAdministration
from cluster.services.codes import CodeAdministration
from cluster.services.enrolment import add_token_command, provisioning_uri
from cluster.services.paging import decode_page_token, encode_page_token
from cluster.services.proposals import Proposals
from cluster.services.settings import SettingsAdministration
from cluster.services.sign_ins import SignIns
from cluster.services.status import invalid, no_such_token, no_such_user
from cluster.services.views import attempt_message, token_message, user_message
from cluster.state import reads
from cluster.state.commands import (
    AddUser,
    ConfirmToken,
    DeleteToken,
    DeleteUser,
    DisableToken,
    DisableUser,
    EnableToken,
    EnableUser,
    ResyncToken,
    UnlockUser,
    add_token_random_bytes,
)
from watchword.v1 import administration_pb2 as messages

# ruff: noqa: N802 - methods are named as in the contract

Context: TypeAlias = aio.ServicerContext[Any, Any]

_ENABLED: Final = {
    messages.USER_STATE_UNSPECIFIED: None,
    messages.USER_STATE_ENABLED: True,
    messages.USER_STATE_DISABLED: False,
}


class AdministrationService(ClientAdministration, CodeAdministration, SettingsAdministration):
    """`random_bytes` is the source of secrets; `wall_ms` the node's clock, for what is shown only."""

    def __init__(
        self,
        proposals: Proposals,
        authority: Authority,
        sign_ins: SignIns,
        *,
        random_bytes: Callable[[int], bytes],
        wall_ms: Callable[[], int],
    ) -> None:
        super().__init__(proposals, authority)
        self._sign_ins = sign_ins
        self._random_bytes = random_bytes
        self._wall_ms = wall_ms

    async def AddUser(self, request: messages.AddUserRequest, context: Context) -> messages.AddUserResponse:
        user_id = fields.user_id(request.user_id)
        await self._proposals.change(AddUser(user_id), request.request_id, context)
        user = reads.get_user(self._proposals.state, user_id, self._wall_ms())
        # A retry may come when the user is gone again; what was asked for was done all the same.
        return messages.AddUserResponse(user=user_message(user) if user else None)

    async def GetUser(self, request: messages.GetUserRequest, context: Context) -> messages.GetUserResponse:
        user_id = fields.user_id(request.user_id)
        state = await self._proposals.fresh(context)
        user = reads.get_user(state, user_id, self._wall_ms())
        if user is None:
            raise no_such_user()
        return messages.GetUserResponse(
            user=user_message(user),
            tokens=[token_message(token) for token in reads.list_tokens(state, user_id) or ()],
            attempts=[attempt_message(attempt) for attempt in reads.list_attempts(state, user_id)],
        )

    async def ListUsers(self, request: messages.ListUsersRequest, context: Context) -> messages.ListUsersResponse:
        wanted = user_filter(request)
        limit = fields.within("page_size", request.page_size or limits.PAGE_SIZE_DEFAULT, 1, limits.PAGE_SIZE_MAX)
        after = decode_page_token(request.page_token)
        state = await self._proposals.fresh(context)
        page = reads.list_users(state, after, limit, self._wall_ms(), wanted)
        return messages.ListUsersResponse(
            users=[user_message(user) for user in page.users],
            next_page_token="" if page.next_after is None else encode_page_token(page.next_after),
        )

    async def EnableUser(self, request: messages.EnableUserRequest, context: Context) -> messages.EnableUserResponse:
        await self._proposals.change(EnableUser(fields.user_id(request.user_id)), request.request_id, context)
        return messages.EnableUserResponse()

    async def DisableUser(self, request: messages.DisableUserRequest, context: Context) -> messages.DisableUserResponse:
        await self._proposals.change(DisableUser(fields.user_id(request.user_id)), request.request_id, context)
        return messages.DisableUserResponse()

    async def DeleteUser(self, request: messages.DeleteUserRequest, context: Context) -> messages.DeleteUserResponse:
        await self._proposals.change(DeleteUser(fields.user_id(request.user_id)), request.request_id, context)
        return messages.DeleteUserResponse()

    async def UnlockUser(self, request: messages.UnlockUserRequest, context: Context) -> messages.UnlockUserResponse:
        await self._proposals.change(UnlockUser(fields.user_id(request.user_id)), request.request_id, context)
        return messages.UnlockUserResponse()

    async def AddToken(self, request: messages.AddTokenRequest, context: Context) -> messages.AddTokenResponse:
        command = add_token_command(request)
        generated = self._random_bytes(add_token_random_bytes(command.algorithm))
        result = await self._proposals.change(command, request.request_id, context, generated)
        token = reads.token_with_secret(self._proposals.state, result.token_id)
        if token is None:
            raise no_such_token()  # deleted again, before a retry asked
        return messages.AddTokenResponse(token_id=result.token_id, uri=provisioning_uri(command, token))

    async def ListTokens(self, request: messages.ListTokensRequest, context: Context) -> messages.ListTokensResponse:
        user_id = fields.user_id(request.user_id)
        tokens = reads.list_tokens(await self._proposals.fresh(context), user_id)
        if tokens is None:
            raise no_such_user()
        return messages.ListTokensResponse(tokens=[token_message(token) for token in tokens])

    async def ConfirmToken(
        self, request: messages.ConfirmTokenRequest, context: Context
    ) -> messages.ConfirmTokenResponse:
        command = ConfirmToken(fields.token_id(request.token_id), fields.passcode("code", request.code))
        await self._proposals.change(command, request.request_id, context)
        return messages.ConfirmTokenResponse()

    async def ResyncToken(self, request: messages.ResyncTokenRequest, context: Context) -> messages.ResyncTokenResponse:
        command = ResyncToken(
            fields.token_id(request.token_id),
            fields.passcode("first_code", request.first_code),
            fields.passcode("second_code", request.second_code),
        )
        await self._proposals.change(command, request.request_id, context)
        return messages.ResyncTokenResponse()

    async def EnableToken(self, request: messages.EnableTokenRequest, context: Context) -> messages.EnableTokenResponse:
        await self._proposals.change(EnableToken(fields.token_id(request.token_id)), request.request_id, context)
        return messages.EnableTokenResponse()

    async def DisableToken(
        self, request: messages.DisableTokenRequest, context: Context
    ) -> messages.DisableTokenResponse:
        await self._proposals.change(DisableToken(fields.token_id(request.token_id)), request.request_id, context)
        return messages.DisableTokenResponse()

    async def DeleteToken(self, request: messages.DeleteTokenRequest, context: Context) -> messages.DeleteTokenResponse:
        await self._proposals.change(DeleteToken(fields.token_id(request.token_id)), request.request_id, context)
        return messages.DeleteTokenResponse()


def user_filter(request: messages.ListUsersRequest) -> reads.UserFilter:
    """Raises CallError (INVALID_ARGUMENT)."""
    if request.state not in _ENABLED:
        raise invalid("state", "must be USER_STATE_ENABLED, USER_STATE_DISABLED or unspecified")
    return reads.UserFilter(
        prefix=fields.name_part("prefix", request.prefix),
        enabled=_ENABLED[request.state],
        locked=request.locked if request.HasField("locked") else None,
    )
