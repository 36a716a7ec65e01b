"""A connection profile: a TOML file that says whom to ask and as whom.

    endpoints = ["node-1.example:7400", "node-2.example:7400", "node-3.example:7400"]
    ca_file = "ca.pem"
    certificate_file = "client.pem"
    key_file = "client.key"
    kek_file = "kek"            # only for what reads data files itself; a call to a cluster needs the first four

Relative paths are relative to the profile.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from watchword.errors import ProfileError

PROFILE_BYTES_MAX = 64 * 1024
ENDPOINTS_MAX = 64
REQUIRED_FILES = ("ca_file", "certificate_file", "key_file")
FIELDS = ("endpoints", *REQUIRED_FILES, "kek_file")
_ENDPOINT = re.compile(r"^(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})$")


@dataclass(frozen=True, slots=True)
class Profile:
    """Whom to ask (`endpoints`, each HOST:PORT, at least one) and as whom.  Paths are absolute."""

    endpoints: tuple[str, ...]
    ca_file: Path
    certificate_file: Path
    key_file: Path
    kek_file: Path | None = None

    def at(self, endpoint: str) -> "Profile":
        """The same, asking one endpoint only."""
        return replace(self, endpoints=(checked_endpoint(endpoint),))


def load_profile(path: Path) -> Profile:
    """Read a profile; `ProfileError` where it is missing, unreadable or wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(PROFILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ProfileError(
            f"there is no profile {path}",
            advice="start a cluster here with `watchword up`, or name one with --profile FILE or WATCHWORD_PROFILE",
        ) from None
    except OSError as error:
        raise ProfileError(
            f"the profile {path} cannot be read ({error.strerror})",
            advice="run this as the user whose profile it is, or name another with --profile FILE",
        ) from error
    if len(data) > PROFILE_BYTES_MAX:
        raise ProfileError(f"the profile {path} is larger than {PROFILE_BYTES_MAX} bytes", advice="name another file")
    try:
        fields = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"the profile {path} is not TOML ({error})", advice="correct it, or name another") from error
    return profile_of(fields, path)


def profile_of(fields: Mapping[str, Any], path: Path) -> Profile:
    """The profile that the fields of the file at `path` describe."""

    def wrong(what: str) -> ProfileError:
        return ProfileError(f"the profile {path} {what}", advice=f"it holds {', '.join(FIELDS)}")

    for name in fields:
        if name not in FIELDS:
            raise wrong(f"has the unknown field {name!r}")
    endpoints = fields.get("endpoints")
    if not isinstance(endpoints, list) or not 1 <= len(endpoints) <= ENDPOINTS_MAX:
        raise wrong(f'has no list of 1 to {ENDPOINTS_MAX} endpoints (endpoints = ["HOST:PORT"])')
    files: dict[str, Path] = {}
    for name in (*REQUIRED_FILES, "kek_file"):
        value = fields.get(name)
        if isinstance(value, str) and value and "\0" not in value:
            files[name] = Path(path.absolute().parent, value)
        elif value is not None or name in REQUIRED_FILES:
            raise wrong(f"has no file name in the field {name!r}")
    return Profile(tuple(checked_endpoint(endpoint) for endpoint in endpoints), **files)


def checked_endpoint(endpoint: object) -> str:
    """The endpoint itself where it is HOST:PORT ([HOST]:PORT for IPv6); `ProfileError` otherwise."""
    match = _ENDPOINT.match(endpoint) if isinstance(endpoint, str) else None
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        raise ProfileError(f"{endpoint!r} is not an endpoint", advice="write HOST:PORT, or [ADDRESS]:PORT for IPv6")
    return match[0]
