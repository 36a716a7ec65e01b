"""Passcodes that are drawn for somebody and work once: recovery codes, and the bypass of a helpdesk.

Eight characters of 32, always with a letter among them, which tells them from codes of a token. No two characters of
the alphabet look alike, and what looks like one of them is taken for it (Crockford's Base32).

They are drawn at random, nearly 40 bits each, and not chosen by people. So a fast hash keeps them: asking the cluster
is bounded by the lockout, and whoever has the state with its key has the secrets of all tokens beside the hashes, so
that a slow hash would protect nothing that is worth it. They are not kept in plain text all the same: nothing that
reads the state, or writes it out, can show one by mistake.
"""

from hashlib import blake2b, shake_256
from typing import Final

CHARACTERS: Final = 8
RECOVERY_CODES: Final = 10
SALT_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 16
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

# Lower case is upper case, and the letters that are left out are the digits that they look like. ASCII only: the
# Unicode tables differ between Python versions.
_CANONICAL: Final = {
    **{ord(letter.lower()): letter for letter in ALPHABET[10:]},
    **dict.fromkeys(map(ord, "oO"), "0"),
    **dict.fromkeys(map(ord, "iIlL"), "1"),
}


def has_letter(text: str) -> bool:
    """Whether an ASCII letter is in it: then it is no code of a token."""
    return any("a" <= character <= "z" or "A" <= character <= "Z" for character in text)


def draw(seed: bytes, count: int) -> tuple[str, ...]:
    """`count` different codes; the same seed gives the same ones, and a random seed random ones."""
    found: dict[str, None] = {}
    for code in _stream(seed, 4 * count + 16):
        if len(found) == count:
            break
        if has_letter(code):
            found[code] = None
    assert len(found) == count, "hardly any text is without a letter, and hardly two are equal"
    return tuple(found)


def _stream(seed: bytes, number: int) -> list[str]:
    """`number` texts of eight characters; five bits each, so that every character is as likely as the next."""
    drawn = shake_256(seed).digest(CHARACTERS * number)
    characters = [ALPHABET[byte & 31] for byte in drawn]
    return ["".join(characters[at : at + CHARACTERS]) for at in range(0, len(characters), CHARACTERS)]


def canonical(typed: str) -> str:
    """The one form of a code that is compared, however it was typed; `typed` is without spaces and hyphens."""
    return typed.translate(_CANONICAL)


def fingerprint(code: str, salt: bytes) -> bytes:
    """What is kept of a code, in its canonical form. `salt` keeps equal codes of two people apart."""
    return blake2b(code.encode("utf-8", "replace"), digest_size=FINGERPRINT_BYTES, salt=salt).digest()
