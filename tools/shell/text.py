"""How things are shown, and what a path may look like: the texts of Apache's shell.

Owns:   nothing; pure but for the machine's time zone.
Source: StatPrinter, AclParser, ZKUtil, PathUtils, KeeperException, CliWrapperException, Id;
        ByteBufUtil.prettyHexDump of netty.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Final

from zkstore.client import Acl, Event, EventType, Perms, Stat
from zkstore.errors import Code

from .grammar import Refused

# Error codes by their Java names, where these are not the enumeration's in other letters.
_NAMES: Final = {
    Code.API_ERROR: "APIError",
    Code.INVALID_ACL: "InvalidACL",
    Code.NOT_EMPTY: "Directory not empty",
    Code.SESSION_EXPIRED: "Session expired",
    Code.INVALID_CALLBACK: "Invalid callback",
    Code.SESSION_MOVED: "Session moved",
    Code.NOT_READ_ONLY: "Not a read-only call",
    Code.EPHEMERAL_ON_LOCAL_SESSION: "Ephemeral node on local session",
    Code.NO_WATCHER: "No such watcher",
    Code.RECONFIG_DISABLED: "Reconfig is disabled",
    Code.SESSION_CLOSED_REQUIRE_SASL_AUTH: "Session closed because client failed to authenticate",
    Code.QUOTA_EXCEEDED: "Quota has exceeded",
    Code.THROTTLED_OP: "Op throttled due to high load",
    Code.NEW_CONFIG_NO_QUORUM: "NewConfigNoQuorum",
}

# What the shell says instead of "KeeperErrorCode = ... for PATH".
_PLAIN: Final = {
    Code.NO_NODE: "Node does not exist: ",
    Code.NO_CHILDREN_FOR_EPHEMERALS: "Ephemerals cannot have children: ",
    Code.NODE_EXISTS: "Node already exists: ",
    Code.NOT_EMPTY: "Node not empty: ",
    Code.NOT_READ_ONLY: "Not a read-only call: ",
    Code.INVALID_ACL: "Acl is not valid : ",
    Code.NO_AUTH: "Insufficient permission : ",
    Code.BAD_ARGUMENTS: "Arguments are not valid : ",
    Code.BAD_VERSION: "version No is not valid : ",
    Code.QUOTA_EXCEEDED: "Quota has exceeded : ",
}
_RECONFIG: Final = {
    Code.RECONFIG_IN_PROGRESS: "Another reconfiguration is in progress -- concurrent reconfigs not"
    " supported (yet)",
    Code.NEW_CONFIG_NO_QUORUM: "No quorum of new config is connected and up-to-date with the leader"
    " of last commmitted config - try invoking reconfiguration after new servers are connected and"
    " synced",
}

_EVENTS: Final = {
    EventType.CREATED: "NodeCreated",
    EventType.DELETED: "NodeDeleted",
    EventType.DATA_CHANGED: "NodeDataChanged",
    EventType.CHILDREN_CHANGED: "NodeChildrenChanged",
}

_PERMS: Final = {
    "c": Perms.CREATE,
    "d": Perms.DELETE,
    "r": Perms.READ,
    "w": Perms.WRITE,
    "a": Perms.ADMIN,
}


# ---- errors


def keeper_error(code: Code, path: str | None) -> str:
    """An error as Java's exception words it."""
    name = _NAMES.get(code) or code.name.title().replace("_", "")
    return f"KeeperErrorCode = {name} for {path}" if path else f"KeeperErrorCode = {name}"


def failure(code: Code, path: str | None) -> str:
    """An error as the shell words it; `path` is None where Java knows none."""
    if code in _PLAIN:
        return _PLAIN[code] + ("null" if path is None else path)
    return _RECONFIG.get(code) or keeper_error(code, path)


# ---- paths


def check_path(path: str, *, sequential: bool = False) -> None:
    """Raises: Refused for what cannot be a path."""
    path += "1" if sequential else ""
    if not path:
        raise Refused("Path length must be > 0")
    if not path.startswith("/"):
        raise Refused("Path must start with / character")
    if path == "/":
        return
    if path.endswith("/"):
        raise Refused("Path must not end with / character")
    place = 0
    for name in path[1:].split("/"):
        place += 1
        if reason := _name_problem(name, place):
            raise Refused(f'Invalid path string "{path}" caused by {reason}')
        place += len(name)


_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")


def _name_problem(name: str, place: int) -> str:
    """What is wrong with a component that begins at `place`; empty if it is fine."""
    if not name:
        return f"empty node name specified @{place}"
    if name in (".", ".."):
        return f"relative paths not allowed @{place + len(name) - 1}"
    found = _CONTROL.search(name)
    if found is None:
        return ""
    what = "null character not allowed" if found[0] == "\0" else "invalid character"
    return f"{what} @{place + found.start()}"


# ---- nodes


def shown(data: bytes | None) -> str:
    return "null" if data is None else data.decode(errors="replace")


def stat_lines(stat: Stat) -> str:
    return (
        f"cZxid = {_hex(stat.czxid)}\n"
        f"ctime = {_date(stat.ctime_ms)}\n"
        f"mZxid = {_hex(stat.mzxid)}\n"
        f"mtime = {_date(stat.mtime_ms)}\n"
        f"pZxid = {_hex(stat.pzxid)}\n"
        f"cversion = {stat.cversion}\n"
        f"dataVersion = {stat.version}\n"
        f"aclVersion = {stat.aversion}\n"
        f"ephemeralOwner = {_hex(stat.ephemeral_owner)}\n"
        f"dataLength = {stat.data_length}\n"
        f"numChildren = {stat.num_children}\n"
    )


def _hex(number: int) -> str:
    return f"0x{number % (1 << 64):x}"


def _date(milliseconds: int) -> str:
    """As Java's Date.toString: Sat Nov 21 14:36:59 UTC 2026."""
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", time.localtime(milliseconds // 1000))


def hex_dump(data: bytes) -> str:
    """Sixteen bytes a line between rules; empty for no data."""
    if not data:
        return ""
    rule = f"+--------+{'-' * 49}+{'-' * 16}+"
    lines = [
        f"         +{'-' * 49}+",
        "         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |",
        rule,
    ]
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 0x1F < byte < 0x7F else "." for byte in row)
        lines.append(f"|{start:08x}| {row.hex(' '):<48}|{text:<16}|")
    return "\n".join([*lines, rule])


# ---- access control lists


def parse_acl(text: str) -> tuple[list[Acl], list[str]]:
    """`scheme:id:perms,...` → (the entries that can be read, complaints about the rest)."""
    entries, complaints = [], []
    for part in split_as_java(text, ","):
        scheme, colon, rest = part.partition(":")
        identity, second, letters = rest.rpartition(":")
        if not colon or not second:
            complaints.append(f"{part} does not have the form scheme:id:perm")
            continue
        complaints += [f"Unknown perm type: {one}" for one in letters if one not in _PERMS]
        perms = Perms(0)
        for letter in letters:
            perms |= _PERMS.get(letter, Perms(0))
        entries.append(Acl(perms, scheme, identity))
    return entries, complaints


def split_as_java(text: str, separator: str) -> list[str]:
    """Without the empty strings at the end, but never without a first one."""
    parts = text.split(separator)
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return parts


def acl_lines(entries: Sequence[Acl]) -> str:
    return "".join(
        f"'{_escaped(entry.scheme)},'{_escaped(entry.id)}\n"
        f": {''.join(letter for letter, perm in _PERMS.items() if entry.perms & perm)}\n"
        for entry in entries
    )


def _escaped(text: str) -> str:
    return re.sub("[\0\n\r,}%]", lambda found: f"%{ord(found[0]):02X}", text)


# ---- events


def watched(kind: str, state: str, path: str | None, zxid: int) -> str:
    event = f"WatchedEvent state:{state} type:{kind} path:{path or 'null'} zxid: {zxid}"
    return f"\nWATCHER::\n\n{event}\n"


def event_name(event: Event) -> str:
    return _EVENTS[event.type]
