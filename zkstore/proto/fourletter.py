"""The four-letter words: which there are, and their answers' text.

Owns:   nothing; pure. Answers are made from plain dicts (`Snapshot`), gathered by commit/admin.py.
Shape:  the text that Apache ZooKeeper 3.9.3 sends, line for line; tools parse it.
Source: NettyServerCnxn.checkFourLetterWord, the classes of server.command.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from zkstore.proto.opcodes import SHORT_NAMES

# What tools take for the ZooKeeper version: the protocol and behaviour that this server has.
ZOOKEEPER_VERSION: Final = "3.9.3"

NAMES: Final = (
    "ruok", "srvr", "stat", "mntr", "conf", "isro", "dump", "cons", "envi", "wchs", "wchc", "wchp",
    "dirs", "crst", "srst", "hash", "gtmk", "stmk",
)  # fmt: skip
WORDS: Final = {name.encode(): name for name in NAMES}
# What follows a word and belongs to it: stmk is followed by the mask.
ARGUMENT_BYTES: Final = {"stmk": 8}
TRACE_MASK_DEFAULT: Final = 306

NOT_SERVING: Final = b"This ZooKeeper instance is not currently serving requests\n"
ALWAYS_ANSWERED: Final = frozenset(("envi", "gtmk", "isro", "stmk"))  # while nobody is served, too

Snapshot = dict[str, Any]


def refused(word: str) -> bytes:
    return f"{word} is not executed because it is not in the whitelist.\n".encode()


def version_text(version: str) -> str:
    return f"{ZOOKEEPER_VERSION}-zkstore-{version}, built on 2026-11-21 00:00 UTC"


def connection(client: Any) -> dict[str, Any]:
    """What a worker tells of one connection, for `stat`, `cons` and `dump`."""
    stats = client.stats
    return {
        "number": client.number,
        "address": client.address,
        "port": client.port,
        "outstanding": client.outstanding,
        "received": stats.received,
        "sent": stats.sent,
        "session_id": client.session_id,
        "timeout_ms": client.timeout_ms,
        "established_ms": stats.established_ms,
        "last_op": stats.last_op,
        "last_cxid": stats.last_cxid,
        "last_zxid": stats.last_zxid,
        "last_ms": stats.last_ms,
        "last_latency": stats.last_latency,
        "min_latency": stats.min_latency,
        "max_latency": stats.max_latency,
        "total_latency": stats.total_latency,
        "count": stats.count,
    }


def _unsigned(session_id: int) -> str:
    return f"0x{session_id & 0xFFFFFFFFFFFFFFFF:x}"


def _endpoint(one: dict[str, Any]) -> str:
    """As java.net.InetSocketAddress prints it."""
    address = one["address"]
    return f"/[{address}]:{one['port']}" if ":" in address else f"/{address}:{one['port']}"


def _brief(one: dict[str, Any]) -> str:
    # Nothing is read of who has sent something and waits: a word, or a ConnectRequest.
    interest = 1 if one["session_id"] or not one["received"] else 0
    return (
        f" {_endpoint(one)}[{interest}](queued={one['outstanding']},"
        f"recved={one['received']},sent={one['sent']}"
    )


def _full(one: dict[str, Any]) -> str:
    if not one["session_id"]:
        return _brief(one) + ")"
    average = one["total_latency"] / one["count"] if one["count"] else 0
    cxid = f"lcxid={_hex(one['last_cxid'])}," if one["last_cxid"] >= 0 else ""
    return _brief(one) + (
        f",sid={_unsigned(one['session_id'])},lop={SHORT_NAMES.get(one['last_op'], 'NA')},"
        f"est={one['established_ms']},to={one['timeout_ms']},"
        f"{cxid}lzxid={_hex(one['last_zxid'])},"
        f"lresp={int(one['last_ms'] * 1000)},llat={int(one['last_latency'])},"
        f"minlat={max(0, int(one['min_latency']))},avglat={int(average)},"
        f"maxlat={int(one['max_latency'])})"
    )


def _hex(number: int) -> str:
    return f"0x{number & 0xFFFFFFFFFFFFFFFF:x}"


def _server(s: Snapshot) -> str:
    """The lines that srvr and stat share."""
    latency = s["latency"]
    return (
        f"Latency min/avg/max: {int(latency.least)}/{s['average_latency']}"
        f"/{int(latency.greatest)}\n"
        f"Received: {s['received']}\nSent: {s['sent']}\n"
        f"Connections: {len(s['connections'])}\nOutstanding: {s['outstanding']}\n"
        f"Zxid: {_hex(s['zxid'])}\nMode: {s['mode']}\nNode count: {s['nodes']}\n" + _proposals(s)
    )


def _proposals(s: Snapshot) -> str:
    """A leader's line more."""
    sizes = s.get("proposal_sizes")
    if sizes is None:
        return ""
    last, least, greatest = sizes
    return f"Proposal sizes last/min/max: {last}/{least}/{greatest}\n"


def srvr(s: Snapshot) -> str:
    return f"Zookeeper version: {s['version']}\n" + _server(s)


def stat(s: Snapshot) -> str:
    clients = "".join(_brief(one) + ")\n" for one in s["connections"])
    return f"Zookeeper version: {s['version']}\nClients:\n{clients}\n" + _server(s)


def cons(s: Snapshot) -> str:
    return "".join(_full(one) + "\n" for one in s["connections"]) + "\n"


def conf(s: Snapshot) -> str:
    return "".join(f"{key}={value}\n" for key, value in s["conf"].items()) + str(s["membership"])


def _date(wall_ms: int) -> str:
    """As java.util.Date prints it."""
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", time.localtime(wall_ms / 1000))


def dump(s: Snapshot) -> str:
    """Sessions by when they expire, their ephemerals, and the connections."""
    lines = ["SessionTracker dump:", *_tracked(s)]
    lines += ["ephemeral nodes dump:", f"Sessions with Ephemerals ({len(s['ephemerals'])}):"]
    for session_id, paths in s["ephemerals"].items():
        lines.append(f"{_unsigned(session_id)}:")
        lines += [f"\t{path.decode(errors='replace')}" for path in paths]
    connections = s["connections"]
    lines += ["Connections dump:", f"Connections Sets (1)/({len(connections)}):"]
    lines.append(f"{len(connections)} expire at {_date(s['now_ms'])}:")
    lines += [
        f"\tip: {_endpoint(one)} sessionId: {_unsigned(one['session_id'])}" for one in connections
    ]
    return "\n".join(lines) + "\n"


def _tracked(s: Snapshot) -> list[str]:
    """The sessions: of a standalone server, of a leader, of a learner, each in its form."""
    lines = []
    local, known = s.get("local_expiry"), s.get("global")
    if local is not None:
        lines += _sets("Local Session", local)
    if known is None:
        return lines + _sets("Global Session" if lines else "Session", s["expiry"])
    lines.append(f"Global Sessions({len(known)}):")
    return lines + [f"{_unsigned(one)}\t{ms}ms" for one, ms in sorted(known.items())]


def _sets(title: str, expiry: Mapping[int, list[int]]) -> list[str]:
    lines = [f"{title} Sets ({len(expiry)})/({sum(map(len, expiry.values()))}):"]
    for wall_ms, ids in sorted(expiry.items()):
        lines.append(f"{len(ids)} expire at {_date(wall_ms)}:")
        lines += [f"\t{_unsigned(session_id)}" for session_id in ids]
    return lines


def mntr(s: Snapshot) -> str:
    """Gauges and counters by the names that monitoring agents know (observability/metrics.py)."""
    head = {"version": s["version"], "server_state": s["mode"]}
    if "peer_state" in s:
        head["peer_state"] = s["peer_state"]
    return "".join(f"zk_{name}\t{value}\n" for name, value in (head | s["metrics"]).items())


def envi(s: Snapshot) -> str:
    return "Environment:\n" + "".join(f"{key}={value}\n" for key, value in s["environment"].items())


def dirs(s: Snapshot) -> str:
    return f"datadir_size: {s['data_dir_size']}\nlogdir_size: {s['log_dir_size']}\n"


def wchs(s: Snapshot) -> str:
    """Only data watches, as in Apache; watch_count of mntr has the child watches too."""
    by_session = s["watches_by_session"]
    total = sum(map(len, by_session.values()))
    known = {path for paths in by_session.values() for path in paths}
    return f"{len(by_session)} connections watching {len(known)} paths\nTotal watches:{total}\n"


def wchc(s: Snapshot) -> str:
    lines = []
    for session_id, paths in sorted(s["watches_by_session"].items()):
        lines.append(_unsigned(session_id))
        lines += [f"\t{path.decode(errors='replace')}" for path in sorted(paths)]
    return "".join(line + "\n" for line in lines) + "\n"


def wchp(s: Snapshot) -> str:
    by_path: dict[bytes, list[int]] = {}
    for session_id, paths in sorted(s["watches_by_session"].items()):
        for path in paths:
            by_path.setdefault(path, []).append(session_id)
    lines = []
    for path, sessions in sorted(by_path.items()):
        lines.append(path.decode(errors="replace"))
        lines += [f"\t{_unsigned(session_id)}" for session_id in sessions]
    return "".join(line + "\n" for line in lines) + "\n"


def crst(_: Snapshot) -> str:
    return "Connection stats reset.\n"


def srst(_: Snapshot) -> str:
    return "Server stats reset.\n"


def hashes(s: Snapshot) -> str:
    """The tree's digest at every 128th zxid."""
    return "".join(f"{zxid:x}: {_signed(digest)}\n" for zxid, digest in s["digests"])


def _signed(number: int) -> int:
    """A sum modulo 2**64 as a Java long."""
    number &= 0xFFFFFFFFFFFFFFFF
    return number - (1 << 64) if number >> 63 else number


def trace_mask(s: Snapshot) -> str:
    return str(s["trace_mask"])


ANSWERS: Final = {
    "srvr": srvr,
    "stat": stat,
    "cons": cons,
    "conf": conf,
    "dump": dump,
    "mntr": mntr,
    "envi": envi,
    "wchs": wchs,
    "wchc": wchc,
    "wchp": wchp,
    "dirs": dirs,
    "crst": crst,
    "srst": srst,
    "hash": hashes,
    "gtmk": trace_mask,
    "stmk": trace_mask,
}
