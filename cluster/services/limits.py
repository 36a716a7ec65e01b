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
    "grpc.health.v1.Health": 256,
    "grpc.reflection.v1alpha.ServerReflection": 16,
}
STREAMS_PER_CONNECTION_MAX: Final = 1_024

# Connections.
PING_INTERVAL_MS_MIN: Final = 5_000
KEEPALIVE_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 10_000
