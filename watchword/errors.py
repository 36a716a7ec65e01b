"""What a client raises: one tree, whose members say what happened and what to do next, in one line.

No message holds a passcode, a PIN or a secret: what a node answers may name a field, never its contents.
"""


class WatchwordError(Exception):
    """Anything that stopped a call.

    `message` is what happened, `advice` what to do next (may be empty), `reason` a stable word for programs: the node's
    own where it gave one, otherwise the class's.
    """

    reason = "UNEXPECTED"

    def __init__(self, message: str, *, advice: str = "", reason: str = "") -> None:
        self.message = one_line(message)
        self.advice = one_line(advice)
        self.reason = reason or type(self).reason
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}: {self.advice}" if self.advice else self.message


class ProfileError(WatchwordError):
    """The connection profile, or a file that it names, cannot be used.  Nothing was sent."""

    reason = "PROFILE"


class CredentialsError(ProfileError):
    """The certificate, its key or the CA's certificate is missing, unreadable, expired or not yet valid."""

    reason = "CREDENTIALS"


class NotAllowed(WatchwordError):
    """The cluster does not know this certificate's identity, or its roles do not allow the call."""

    reason = "NOT_ALLOWED"


class InvalidArgument(WatchwordError):
    """A field of the request is not as it has to be; `field` names it ("" where the node did not say)."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, field: str = "", advice: str = "", reason: str = "") -> None:
        super().__init__(message, advice=advice, reason=reason)
        self.field = field


class NotFound(WatchwordError):
    """There is no such user or token."""

    reason = "NOT_FOUND"


class AlreadyExists(WatchwordError):
    """There is such a user or token already."""

    reason = "ALREADY_EXISTS"


class FailedPrecondition(WatchwordError):
    """What the call needs is not so: a code that does not fit, a token that is not pending."""

    reason = "FAILED_PRECONDITION"


class Unavailable(WatchwordError):
    """No answer in time.  Whether a change took place is not known: repeat it with the same `request_id`."""

    reason = "UNAVAILABLE"


class NoQuorum(Unavailable):
    """Nodes answer, and say that no majority of the cluster does."""

    reason = "NO_QUORUM"


class Overloaded(Unavailable):
    """Nodes answer, and say that their queues are full."""

    reason = "OVERLOADED"


class NoConnection(Unavailable):
    """No endpoint could be reached."""

    reason = "NO_CONNECTION"


class NoAnswerInTime(Unavailable):
    """An endpoint was reached, or seemed to be, and did not answer within the time."""

    reason = "DEADLINE"


class Unexpected(WatchwordError):
    """A node failed, or answered what this client does not understand."""

    reason = "UNEXPECTED"


def one_line(text: str) -> str:
    """Without line breaks and control characters, which a terminal or a log would obey."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
