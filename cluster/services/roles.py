"""Who may call what: one table, RPC × role. Tests walk all of it, and every RPC of the contract stands in it.

Roles belong to the certificate's identity, in the replicated state; apply looks at them again for whatever changes.
What is not in the table is refused.
"""

from types import MappingProxyType
from typing import Final

from cluster.state.records import Role

OPERATOR: Final = frozenset({Role.OPERATOR})
# A directory keeps the users as it has them, through its connector.
DIRECTORY: Final = frozenset({Role.OPERATOR, Role.CONNECTOR})
STAFF: Final = frozenset({Role.OPERATOR, Role.HELPDESK})
READERS: Final = frozenset({Role.OPERATOR, Role.HELPDESK, Role.AUDITOR})
AUDIT: Final = frozenset({Role.OPERATOR, Role.AUDITOR})
LEASES: Final = READERS | {Role.CONNECTOR}
EVERY_ROLE: Final = frozenset(Role)

# They are told why an authentication was rejected; a front end is not.
TOLD_REASONS: Final = READERS

# A helpdesk sees no secrets, so it can't enrol where the answer shows one; it can clear the way, confirm, and give a
# bypass, which works once and with the PIN (docs/decisions/).
ALLOWED: Final = MappingProxyType(
    {
        "/watchword.v1.Authentication/Verify": frozenset({Role.FRONTEND}),
        "/watchword.v1.Authentication/VerifyStream": frozenset({Role.FRONTEND}),
        "/watchword.v1.Authentication/ChangePin": frozenset({Role.FRONTEND}),
        "/watchword.v1.Administration/AddUser": DIRECTORY,
        "/watchword.v1.Administration/GetUser": READERS,
        "/watchword.v1.Administration/ListUsers": READERS,
        "/watchword.v1.Administration/EnableUser": DIRECTORY,
        "/watchword.v1.Administration/DisableUser": DIRECTORY,
        "/watchword.v1.Administration/DeleteUser": DIRECTORY,
        "/watchword.v1.Administration/UnlockUser": STAFF,
        "/watchword.v1.Administration/AddToken": OPERATOR,
        "/watchword.v1.Administration/ListTokens": READERS,
        "/watchword.v1.Administration/ConfirmToken": STAFF,
        "/watchword.v1.Administration/ResyncToken": STAFF,
        "/watchword.v1.Administration/EnableToken": STAFF,
        "/watchword.v1.Administration/DisableToken": STAFF,
        "/watchword.v1.Administration/DeleteToken": STAFF,
        "/watchword.v1.Administration/AddClient": OPERATOR,
        "/watchword.v1.Administration/ListClients": AUDIT,
        "/watchword.v1.Administration/RevokeClient": OPERATOR,
        # For itself.
        "/watchword.v1.Administration/RenewClient": EVERY_ROLE,
        "/watchword.v1.Administration/SetPin": OPERATOR,
        "/watchword.v1.Administration/IssueRecoveryCodes": OPERATOR,
        # Apply keeps a helpdesk from itself and from operators.
        "/watchword.v1.Administration/IssueBypass": STAFF,
        "/watchword.v1.Administration/GetSettings": READERS,
        "/watchword.v1.Administration/SetSettings": OPERATOR,
        "/watchword.v1.Cluster/GetStatus": EVERY_ROLE,
        "/watchword.v1.Cluster/AcquireLease": DIRECTORY,
        "/watchword.v1.Cluster/RenewLease": DIRECTORY,
        "/watchword.v1.Cluster/Invite": OPERATOR,
        # No role, but an invitation: FOR_INVITED.
        "/watchword.v1.Cluster/Join": frozenset(),
        "/watchword.v1.Cluster/RemoveMember": OPERATOR,
        "/watchword.v1.Cluster/TransferLeadership": OPERATOR,
        "/watchword.v1.Cluster/ReleaseLease": DIRECTORY,
        "/watchword.v1.Cluster/ListLeases": LEASES,
        "/watchword.v1.Events/Read": AUDIT,
    }
)

# For whoever holds a certificate of this cluster, whatever its roles: they tell nothing of people.
FOR_ANY_CERTIFICATE: Final = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }
)


# All that the certificate in a joining token is good for.
FOR_INVITED: Final = frozenset({"/watchword.v1.Cluster/Join"})


def is_allowed(method: str, roles: frozenset[Role]) -> bool:
    """Whether an authenticated identity with these roles may call the method ("/package.Service/Method")."""
    return method in FOR_ANY_CERTIFICATE or not ALLOWED.get(method, frozenset()).isdisjoint(roles)


def may_know_reasons(roles: frozenset[Role]) -> bool:
    return not TOLD_REASONS.isdisjoint(roles)
