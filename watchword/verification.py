"""A sign-in as a client asks for it, and what the answer means."""

from dataclasses import dataclass
from typing import Any

from watchword import errors
from watchword.v1 import authentication_pb2 as authentication


@dataclass(frozen=True, slots=True)
class Verification:
    """What the cluster decided.

    `accepted` is what a caller acts on.  `decision` is "ACCEPT" or "REJECT", and REJECT for any decision that this
    client does not know.  `reason` ("WRONG", "REPLAYED", …) and, on a rejection, `token_id` are empty for callers who
    may not see them; `advice` is what to tell the person: "TRY_AGAIN" on a rejection, "CHANGE_PIN" on an acceptance
    after which the person must choose a new PIN (`Client.change_pin`).
    """

    accepted: bool
    reason: str
    advice: str
    token_id: str

    @property
    def decision(self) -> str:
        return "ACCEPT" if self.accepted else "REJECT"


def verify_request(
    request_id: str, user_id: str, passcode: str, *, token_id: str | None, application: str, address: str
) -> authentication.VerifyRequest:
    """The message; `InvalidArgument` where a field is not Unicode text."""
    request = authentication.VerifyRequest(
        request_id=text("request_id", request_id),
        user_id=text("user_id", user_id),
        passcode=text("passcode", passcode),
        token_id=None if token_id is None else text("token_id", token_id),
    )
    if application or address:
        request.client.application = text("application", application)
        request.client.address = text("address", address)
    return request


def verification_of(response: authentication.VerifyResponse) -> Verification:
    """What an answer means: anything but ACCEPT is a rejection."""
    return Verification(
        accepted=response.decision == authentication.DECISION_ACCEPT,
        reason=name_of(authentication.Reason, response.reason, "REASON_"),
        advice=name_of(authentication.Advice, response.advice, "ADVICE_"),
        token_id=response.token_id,
    )


def text(field: str, value: str) -> str:
    """The value itself; `InvalidArgument`, which does not repeat it, where it is not Unicode text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise errors.InvalidArgument(f"{field} is not valid text", field=field, advice="write it in UTF-8") from None
    return value


def name_of(enumeration: Any, value: int, prefix: str) -> str:
    """The name of an enum's value without its prefix; empty where it is unspecified or newer than this client."""
    name = enumeration.DESCRIPTOR.values_by_number.get(value)
    if name is None or not value:
        return ""
    return str(name.name.removeprefix(prefix))
