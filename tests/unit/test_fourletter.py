"""proto/fourletter.py: the words' texts, line for line.

That they are Apache's is what tests/conformance/golden/n_words.*.txt shows; here is what depends on
numbers that a real server rarely has.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from zkstore.proto import fourletter
from zkstore.proto import opcodes as op

ANNE = 0x100000000000001
SERVER_128 = -(1 << 63) + 5  # a session of a server whose id is beyond 127


def connection(**fields: Any) -> dict[str, Any]:
    return {
        "address": "127.0.0.1", "port": 5000, "outstanding": 2, "received": 7, "sent": 6,
        "session_id": ANNE, "timeout_ms": 30_000, "established_ms": 1_700_000_000_000,
        "last_op": op.CREATE, "last_cxid": 10, "last_zxid": 0x100000002, "last_ms": 12.5,
        "last_latency": 1.9, "min_latency": 0.4, "max_latency": 3.9, "total_latency": 9.0,
        "count": 4, **fields,
    }  # fmt: skip


def snapshot(**fields: Any) -> fourletter.Snapshot:
    return {
        "version": "3.9.3-zkstore", "mode": "standalone", "zxid": 0x1F, "nodes": 6,
        "connections": [connection()], "outstanding": 3, "received": 70, "sent": 60,
        "latency": SimpleNamespace(least=0.7, greatest=11.2), "average_latency": "0.7929",
        **fields,
    }  # fmt: skip


def test_srvr() -> None:
    assert fourletter.srvr(snapshot()) == (
        "Zookeeper version: 3.9.3-zkstore\n"
        "Latency min/avg/max: 0/0.7929/11\n"
        "Received: 70\n"
        "Sent: 60\n"
        "Connections: 1\n"
        "Outstanding: 3\n"
        "Zxid: 0x1f\n"
        "Mode: standalone\n"
        "Node count: 6\n"
    )


def test_stat_lists_the_clients_between_version_and_numbers() -> None:
    asking = connection(session_id=0, port=6000, outstanding=0, received=1, sent=0)
    silent = connection(session_id=0, port=7000, outstanding=0, received=0, sent=0,
                        address="0:0:0:0:0:0:0:1")  # fmt: skip
    text = fourletter.stat(snapshot(connections=[connection(), asking, silent]))
    assert text.startswith(
        "Zookeeper version: 3.9.3-zkstore\n"
        "Clients:\n"
        " /127.0.0.1:5000[1](queued=2,recved=7,sent=6)\n"
        " /127.0.0.1:6000[0](queued=0,recved=1,sent=0)\n"
        " /[0:0:0:0:0:0:0:1]:7000[1](queued=0,recved=0,sent=0)\n"
        "\n"
        "Latency min/avg/max:"
    )
    assert text.endswith(fourletter.srvr(snapshot()).partition("Outstanding")[2])


def test_cons() -> None:
    assert fourletter.cons(snapshot()) == (
        " /127.0.0.1:5000[1](queued=2,recved=7,sent=6,sid=0x100000000000001,lop=CREA,"
        "est=1700000000000,to=30000,lcxid=0xa,lzxid=0x100000002,lresp=12500,llat=1,minlat=0,"
        "avglat=2,maxlat=3)\n\n"
    )


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"session_id": SERVER_128}, "sid=0x8000000000000005,"),
        ({"last_zxid": -1}, "lzxid=0xffffffffffffffff,"),
        ({"last_op": 999}, "lop=NA,"),
        ({"count": 0, "total_latency": 0.0, "min_latency": -1.0}, "minlat=0,avglat=0,"),
    ],
)
def test_cons_of_odd_numbers(fields: dict[str, Any], shown: str) -> None:
    assert shown in fourletter.cons(snapshot(connections=[connection(**fields)]))


def test_a_client_without_a_cxid_shows_none() -> None:
    assert "lcxid" not in fourletter.cons(snapshot(connections=[connection(last_cxid=-1)]))


def test_every_operation_has_its_short_name() -> None:
    for kind in op.WRITES | {op.GET_DATA, op.EXISTS, op.PING, op.SET_WATCHES2, op.MULTI_READ}:
        assert kind in op.SHORT_NAMES


def test_dump() -> None:
    text = fourletter.dump(
        snapshot(
            now_ms=0, expiry={2_000: [ANNE], 1_000: [SERVER_128, ANNE + 1]},
            ephemerals={ANNE: [b"/a", "/ä".encode()]},
        )
    )  # fmt: skip
    date = r"\w{3} \w{3} \d\d \d\d:\d\d:\d\d \S+ \d{4}"
    assert re.fullmatch(
        "SessionTracker dump:\n"
        r"Session Sets \(2\)/\(3\):" "\n"
        f"2 expire at {date}:\n\t0x8000000000000005\n\t0x100000000000002\n"
        f"1 expire at {date}:\n\t0x100000000000001\n"
        "ephemeral nodes dump:\n"
        r"Sessions with Ephemerals \(1\):" "\n"
        "0x100000000000001:\n\t/a\n\t/ä\n"
        "Connections dump:\n"
        r"Connections Sets \(1\)/\(1\):" "\n"
        f"1 expire at {date}:\n\tip: /127.0.0.1:5000 sessionId: 0x100000000000001\n",
        text,
    )  # fmt: skip


def test_watches_by_session_and_by_path() -> None:
    told = snapshot(watches_by_session={ANNE: {b"/a", b"/b"}, ANNE + 1: {b"/a"}})
    assert fourletter.wchs(told) == "2 connections watching 2 paths\nTotal watches:3\n"
    assert fourletter.wchc(told) == ("0x100000000000001\n\t/a\n\t/b\n0x100000000000002\n\t/a\n\n")
    assert fourletter.wchp(told) == (
        "/a\n\t0x100000000000001\n\t0x100000000000002\n/b\n\t0x100000000000001\n\n"
    )


def test_digests_are_javas_longs() -> None:
    told = snapshot(digests=[(128, 5), (256, (1 << 64) - 1)])
    assert fourletter.hashes(told) == "80: 5\n100: -1\n"


def test_words_and_refusals() -> None:
    assert set(fourletter.ANSWERS) | {"ruok", "isro"} == set(fourletter.NAMES)
    assert all(len(word) == 4 for word in fourletter.WORDS)
    assert fourletter.refused("stat") == (
        b"stat is not executed because it is not in the whitelist.\n"
    )
    assert fourletter.version_text("1.2").startswith("3.9.3-zkstore-1.2, built on ")
