"""docs/configuration.md, made from the definitions in `cluster.node.configuration`."""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from cluster.node.configuration import NodeConfiguration

INTRODUCTION = """# A node's configuration

One TOML file a node, named with `watchword serve --config FILE`. An option that is unknown, missing or wrong is refused
at the start, with the line it stands in. What all nodes have in common (members, roles, lockout and so on) is
replicated and does not stand here; nor do the other nodes.

This page is generated from `cluster/node/configuration.py` by `python -m tools.generate_configuration_reference`.

A smallest file:

```toml
name = "node-1"
client_address = "192.0.2.1:7400"
peer_address = "192.0.2.1:7401"
kek = "file:/etc/watchword/kek.key"
```

`watchword serve` ends with 0 when it was stopped as asked; 2 where the configuration or its surroundings are wrong (an
option, a port in use, the directory, certificates, the clock); 4 for anything unexpected; 5 where the data or its key
was refused (nothing was changed); 6 where storage failed while running (the node stops rather than go on unsure).
"""


def reference() -> str:
    """The page, as Markdown."""
    parts = [INTRODUCTION, _section("Top of the file", NodeConfiguration)]
    parts += [
        _section(f"[{field.name}]", field.type)
        for field in msgspec.structs.fields(NodeConfiguration)
        if _is_table(field.type)
    ]
    return "\n".join(parts)


def _is_table(option: Any) -> bool:
    return isinstance(option, type) and issubclass(option, msgspec.Struct)


def _section(title: str, struct: type[msgspec.Struct]) -> str:
    about = (struct.__doc__ or "").strip().split("] ", 1)[-1]
    hints = typing.get_type_hints(struct, include_extras=True)
    rows = [_row(field, hints[field.name]) for field in msgspec.structs.fields(struct) if not _is_table(field.type)]
    return "\n".join(
        [f"## {title}", "", about, "", "| option | type | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _row(field: msgspec.structs.FieldInfo, hint: Any) -> str:
    bare, meta = typing.get_args(hint)
    if typing.get_origin(bare) is typing.Literal:
        kind = " or ".join(f'`"{choice}"`' for choice in typing.get_args(bare))
    elif bare is int:
        kind = f"integer, {meta.ge:,} to {meta.le:,}"
    else:
        kind = "string"
    default = "required" if field.required else f"`{msgspec.json.encode(field.default).decode()}`"
    return f"| `{field.name}` | {kind} | {default} | {meta.description} |"
