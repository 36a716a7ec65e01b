"""What a code means to a token, and what becomes of the token once its code was used."""

from msgspec.structs import replace

from cluster.state.records import Rules, Token, TokenType
from factors.otp import Outcome, resynchronise, search_hotp, search_totp, step_at


def search(token: Token, code: str, now_ms: int, rules: Rules) -> Outcome:
    """Look for the code in the token's window at that time. Changes nothing."""
    if token.type is TokenType.HOTP:
        return search_hotp(token.otp, code, token.counter, rules.hotp_window)
    expected = step_at(now_ms, token.period_s) + token.drift_steps
    return search_totp(token.otp, code, expected, token.last_step, rules.totp_window)


def used(token: Token, position: int, now_ms: int) -> Token:
    """The token after the code of that counter or step: it and all before it are spent; the drift is remembered."""
    if token.type is TokenType.HOTP:
        return replace(token, counter=position + 1, last_used_ms=now_ms)
    drift = position - step_at(now_ms, token.period_s)
    return replace(token, last_step=position, drift_steps=drift, last_used_ms=now_ms)


def resynchronised(token: Token, pair: tuple[str, str], now_ms: int, rules: Rules) -> Token | None:
    """The token after two consecutive codes, both spent; None where they are not found.

    HOTP: among the next `resync_positions` counters. TOTP: as many steps on either side of the present, drift
    left aside, and only steps that are not spent.
    """
    reach = rules.resync_positions
    if token.type is TokenType.HOTP:
        found = resynchronise(token.otp, pair, token.counter, reach)
        return None if found is None else replace(token, counter=found + 2)
    now = step_at(now_ms, token.period_s)
    first = max(now - reach, token.last_step + 1)
    found = resynchronise(token.otp, pair, first, now + reach - first)
    return None if found is None else replace(token, last_step=found + 1, drift_steps=found + 1 - now)
