"""The kinds of commands, by the numbers that stand in the log."""

from enum import IntEnum


class Kind(IntEnum):
    """Numbers are never used anew."""

    BARRIER = 0
    VERIFY = 1
    ADD_USER = 10
    ENABLE_USER = 11
    DISABLE_USER = 12
    DELETE_USER = 13
    UNLOCK_USER = 14
    ADD_TOKEN = 20
    CONFIRM_TOKEN = 21
    RESYNC_TOKEN = 22
    ENABLE_TOKEN = 23
    DISABLE_TOKEN = 24
    DELETE_TOKEN = 25
    VERIFY_PIN = 30
    CHANGE_PIN = 31
    SET_PIN = 32
    ISSUE_RECOVERY_CODES = 40
    ISSUE_BYPASS = 41
    SET_SETTINGS = 50
    ADD_CLIENT = 60
    REVOKE_CLIENT = 61
    RENEW_CLIENT = 62
    ADD_MEMBER = 70
    REMOVE_MEMBER = 71
    INVITE = 72
    JOIN = 73
    SETTLE_MEMBER = 74
    TRANSFER_LEADERSHIP = 75
    ACQUIRE_LEASE = 80
    RENEW_LEASE = 81
    RELEASE_LEASE = 82
