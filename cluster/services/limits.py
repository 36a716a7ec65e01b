"""Every bound at the gRPC door, in one place: what is larger or more is refused by name.

Lengths of text are in bytes of UTF-8, since that is what is stored; durations in seconds.
"""

from typing import Final

from cluster.state import records
from factors import passcode, secret

# Messages.
MESSAGE_RECEIVED_BYTES_MAX: Final = 64 * 1024
MESSAGE_SENT_BYTES_MAX: Final = 2 * 1024 * 1024
METADATA_BYTES_MAX: Final = 8 * 1024

# Fields: the state's own bounds, and those of what never gets there.
REQUEST_ID_CHARACTERS_MAX: Final = records.REQUEST_ID_CHARACTERS_MAX
USER_ID_BYTES_MAX: Final = records.USER_ID_BYTES_MAX
PASSCODE_BYTES_MAX: Final = passcode.PASSCODE_CHARACTERS_MAX
TOKEN_ID_CHARACTERS_MAX: Final = 64
APPLICATION_BYTES_MAX: Final = records.APPLICATION_BYTES_MAX
ADDRESS_BYTES_MAX: Final = records.ADDRESS_BYTES_MAX
SECRET_BYTES_MIN: Final = secret.SECRET_BYTES_MIN
SECRET_BYTES_MAX: Final = secret.SECRET_BYTES_MAX
PERIOD_S_MIN: Final = records.PERIOD_S_MIN
PERIOD_S_MAX: Final = records.PERIOD_S_MAX
PERIOD_S_DEFAULT: Final = 30
DIGITS_DEFAULT: Final = 6
COUNTER_MAX: Final = records.COUNTER_MAX
PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1_000
PAGE_TOKEN_CHARACTERS_MAX: Final = 512

# Certificates.
CSR_BYTES_MAX: Final = 16 * 1024
ROLES_MAX: Final = 32  # named in one request, also more than once
CLIENT_LIFETIME_MS: Final = 730 * 24 * 3600 * 1000

# Members.
INVITATION_MS_DEFAULT: Final = 3600 * 1000
INVITATION_MS_MIN: Final = records.INVITATION_MS_MIN
INVITATION_MS_MAX: Final = records.INVITATION_MS_MAX
# The certificate in a token lives on for a while, so that whoever comes late is told so and not just cut off.
INVITATION_CERTIFICATE_MS: Final = records.INVITATION_KEPT_MS
MEMBER_ADDRESS_BYTES_MAX: Final = records.MEMBER_ADDRESS_BYTES_MAX
MEMBERS_LOOK_S: Final = 0.05  # between two looks at a change that is waited for

# Leases.
LEASE_TTL_MS_MIN: Final = records.LEASE_TTL_MS_MIN
LEASE_TTL_MS_MAX: Final = records.LEASE_TTL_MS_MAX
LEASE_EPOCH_MAX: Final = 2**63 - 1

# PINs. At some 25 ms a hash: what waits longer than about a second is better refused.
HASHES_PER_THREAD_MAX: Final = 48
BYPASS_SECONDS_MIN: Final = records.BYPASS_SECONDS_MIN
BYPASS_SECONDS_MAX: Final = records.BYPASS_SECONDS_MAX
BYPASS_SECONDS_DEFAULT: Final = 300
BYPASS_REASON_BYTES_MAX: Final = records.BYPASS_REASON_BYTES_MAX

# Time.
DEADLINE_S_DEFAULT: Final = 10.0
# Request ids are remembered for 60 s of log time; what is answered later than this could not be retried safely.
DEADLINE_S_MAX: Final = 30.0
# Kept back of the caller's time, so that the answer, also "unavailable", arrives within it.
MARGIN_S_MAX: Final = 0.2
MARGIN_FRACTION: Final = 0.2
RETRY_AFTER_S: Final = 0.25

# Calls in flight on one node, by service: a crowd at one door leaves the others open.
CALLS_IN_FLIGHT_MAX: Final = {
    "watchword.v1.Authentication": 4_096,
    "watchword.v1.Administration": 256,
    "watchword.v1.Cluster": 64,
    "watchword.v1.Events": 16,
    "grpc.health.v1.Health": 256,
    "grpc.reflection.v1alpha.ServerReflection": 16,
}
STREAMS_PER_CONNECTION_MAX: Final = 1_024

# Streams of sign-ins. A message of one is bounded as every message is.
BATCH_REQUESTS_MAX: Final = 512
VERIFY_STREAMS_MAX: Final = 512
VERIFY_STREAMS_PER_IDENTITY_MAX: Final = 32
# Read and not yet answered, on one stream; beyond it the node stops reading.
STREAM_REQUESTS_IN_FLIGHT_MAX: Final = 4_096
# Under way for all streams of a node. Below what the proposer holds, so that single calls find room beside them.
NODE_STREAM_REQUESTS_MAX: Final = 8_192
RESULTS_MAX: Final = 1_024  # in one message
RESULTS_BYTES_MAX: Final = 512 * 1024  # of the answers' texts in it, about
# A client that takes an answer no sooner is cut off.
STREAM_WRITE_S_MAX: Final = 10.0
# How often an open stream's right to be there is looked at: a role that is taken away ends it within this.
STREAM_ROLES_INTERVAL_S: Final = 0.25

# The audit trail.
EVENTS_DEFAULT: Final = 100
EVENTS_MAX: Final = 10_000
EVENTS_PER_MESSAGE_MAX: Final = 500
EVENT_KINDS_MAX: Final = 64
EVENT_TEXT_BYTES_MAX: Final = 512

# Connections. Strangers can open them: each holds a descriptor, and what is left of those the journal needs.
CONNECTIONS_MAX: Final = 8_192
HANDSHAKE_TIMEOUT_MS: Final = 10_000
PING_INTERVAL_MS_MIN: Final = 5_000
KEEPALIVE_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
# A connection is ended in good order at about this age; what is under way then has so much time.
CONNECTION_AGE_MS: Final = 12 * 3600 * 1000
CONNECTION_AGE_GRACE_MS: Final = 10 * 60 * 1000
