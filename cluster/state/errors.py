"""What makes a state unusable on this node. Each message names the way out; none holds what a record holds."""


class StateError(Exception):
    """The root of this room's errors."""


class NewerCommand(StateError):
    """A committed command is of a later version than this program knows. Nothing of its entry has been applied.

    The node leaves service by name, since guessing would make it answer differently from its peers.
    """

    def __init__(self, index: int, version: int, known: int) -> None:
        super().__init__(
            f"log entry {index} holds a command of version {version}, and this program knows versions up to {known}: "
            "upgrade this node; it takes no part until then"
        )
        self.index = index
        self.version = version


class NewerState(StateError):
    """The stored state has a table that this program does not know."""

    def __init__(self, table: str) -> None:
        super().__init__(f"the stored state has a table {table!r} that this program does not know: upgrade this node")
        self.table = table


class DamagedState(StateError):
    """The stored records are not a state: a record is missing, repeated, or of the wrong shape."""

    def __init__(self, table: str, what: str) -> None:
        super().__init__(f"the stored state is not usable: table {table!r}: {what}; start from another data file")
        self.table = table
