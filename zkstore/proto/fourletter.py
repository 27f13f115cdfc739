"""The four-letter words: which there are, and their answers' text.

Owns:   nothing; pure. Answers are made from plain dicts (`Snapshot`), gathered by commit/admin.py.
Shape:  the text that Apache ZooKeeper 3.9.3 sends, line for line; tools parse it.
Source: NettyServerCnxn.checkFourLetterWord, the classes of server.command.
"""

from __future__ import annotations

import time
from typing import Any, Final

from zkstore.proto.opcodes import SHORT_NAMES

# What tools take for the ZooKeeper version: the protocol and behaviour that this server has.
ZOOKEEPER_VERSION: Final = "3.9.3"

NAMES: Final = ("ruok", "srvr", "stat", "mntr", "conf", "isro", "dump", "cons")
WORDS: Final = {name.encode(): name for name in NAMES}

Snapshot = dict[str, Any]


def refused(word: str) -> bytes:
    return f"{word} is not executed because it is not in the whitelist.\n".encode()


def version_text(version: str) -> str:
    return f"{ZOOKEEPER_VERSION}-zkstore-{version}, built on 2026-11-21 00:00 UTC"


def connection(client: Any) -> dict[str, Any]:
    """What a worker tells of one connection, for `stat`, `cons` and `dump`."""
    stats = client.stats
    return {
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


def _brief(one: dict[str, Any]) -> str:
    interest = 1 if one["session_id"] else 0
    return (
        f" /{one['address']}:{one['port']}[{interest}](queued={one['outstanding']},"
        f"recved={one['received']},sent={one['sent']}"
    )


def _full(one: dict[str, Any]) -> str:
    if not one["session_id"]:
        return _brief(one) + ")"
    average = one["total_latency"] / one["count"] if one["count"] else 0
    return _brief(one) + (
        f",sid={_unsigned(one['session_id'])},lop={SHORT_NAMES.get(one['last_op'], 'NA')},"
        f"est={one['established_ms']},to={one['timeout_ms']},"
        f"lcxid={_hex(one['last_cxid'])},lzxid={_hex(one['last_zxid'])},"
        f"lresp={int(one['last_ms'] * 1000)},llat={int(one['last_latency'])},"
        f"minlat={max(0, int(one['min_latency']))},avglat={int(average)},"
        f"maxlat={int(one['max_latency'])})"
    )


def _hex(number: int) -> str:
    return f"0x{number & 0xFFFFFFFFFFFFFFFF:x}"


def _server(s: Snapshot) -> str:
    """The lines that srvr and stat share."""
    return (
        f"Latency min/avg/max: {int(s['min_latency'])}/{_average(s)}/{int(s['max_latency'])}\n"
        f"Received: {s['received']}\nSent: {s['sent']}\n"
        f"Connections: {len(s['connections'])}\nOutstanding: {s['outstanding']}\n"
        f"Zxid: {_hex(s['zxid'])}\nMode: {s['mode']}\nNode count: {s['nodes']}\n"
    )


def _average(s: Snapshot) -> str:
    """The average latency as Java prints it: up to four decimals, at least one."""
    text = f"{s['avg_latency']:.4f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def srvr(s: Snapshot) -> str:
    return f"Zookeeper version: {s['version']}\n" + _server(s)


def stat(s: Snapshot) -> str:
    clients = "".join(_brief(one) + ")\n" for one in s["connections"])
    return f"Zookeeper version: {s['version']}\nClients:\n{clients}\n" + _server(s)


def cons(s: Snapshot) -> str:
    return "".join(_full(one) + "\n" for one in s["connections"]) + "\n"


def conf(s: Snapshot) -> str:
    return "".join(f"{key}={value}\n" for key, value in s["conf"].items())


def _date(wall_ms: int) -> str:
    """As java.util.Date prints it."""
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", time.localtime(wall_ms / 1000))


def dump(s: Snapshot) -> str:
    """Sessions by when they expire, their ephemerals, and the connections."""
    buckets = sorted(s["expiry"].items())
    count = sum(len(ids) for _, ids in buckets)
    lines = ["SessionTracker dump:", f"Session Sets ({len(buckets)})/({count}):"]
    for wall_ms, ids in buckets:
        lines.append(f"{len(ids)} expire at {_date(wall_ms)}:")
        lines += [f"\t{_unsigned(session_id)}" for session_id in ids]
    lines += ["ephemeral nodes dump:", f"Sessions with Ephemerals ({len(s['ephemerals'])}):"]
    for session_id, paths in s["ephemerals"].items():
        lines.append(f"{_unsigned(session_id)}:")
        lines += [f"\t{path.decode(errors='replace')}" for path in paths]
    connections = s["connections"]
    lines += ["Connections dump:", f"Connections Sets (1)/({len(connections)}):"]
    lines.append(f"{len(connections)} expire at {_date(s['now_ms'])}:")
    lines += [
        f"\tip: /{one['address']}:{one['port']} sessionId: {_unsigned(one['session_id'])}"
        for one in connections
    ]
    return "\n".join(lines) + "\n"


def mntr(s: Snapshot) -> str:
    """Gauges and counters by the names that monitoring agents know."""
    values: dict[str, object] = {
        "version": s["version"],
        "server_state": s["mode"],
        "avg_latency": _average(s),
        "max_latency": int(s["max_latency"]),
        "min_latency": int(s["min_latency"]),
        "packets_received": s["received"],
        "packets_sent": s["sent"],
        "num_alive_connections": len(s["connections"]),
        "outstanding_requests": s["outstanding"],
        "znode_count": s["nodes"],
        "watch_count": s["watches"],
        "ephemerals_count": s["ephemerals_count"],
        "approximate_data_size": s["data_bytes"],
        "open_file_descriptor_count": s["open_files"],
        "max_file_descriptor_count": s["max_files"],
        "global_sessions": s["sessions"],
        "local_sessions": 0,
        "uptime": s["uptime_ms"],
        "last_client_response_size": s["response_sizes"][0],
        "min_client_response_size": s["response_sizes"][1],
        "max_client_response_size": s["response_sizes"][2],
        "connection_drop_probability": 0.0,
        "outstanding_tls_handshake": 0,
        **s["counters"],
    }
    return "".join(f"zk_{name}\t{value}\n" for name, value in values.items())


ANSWERS: Final = {
    "srvr": srvr,
    "stat": stat,
    "cons": cons,
    "conf": conf,
    "dump": dump,
    "mntr": mntr,
}
