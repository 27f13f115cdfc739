"""records/txn.py against bytes that Apache ZooKeeper 3.9.3 wrote into its log.

tests/golden/test_apache_logs.py does the same with whole logs; here is one txn of each type to look
at.
"""

from __future__ import annotations

import pytest

from zkstore.errors import RemoteProtocolError
from zkstore.proto import opcodes as op
from zkstore.records import txn as txns
from zkstore.records.txn import Txn

SESSION = 0x100001682FB0000
OPEN = bytes.fromhex("00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65")
OPEN_HEX = OPEN.hex()

# (session, cxid, zxid, time, type) as Apache wrote them, its body, and what they mean.
# Source: the log of a standalone Apache 3.9.3, see tests/golden/data/zk393.
LOGGED = {
    "createSession": (
        "0100001682fb0000 00000000 0000000000000001 000001a1fd1a56be fffffff6",
        "00004e20",
        Txn(1, SESSION, 0, 1795247724222, op.CREATE_SESSION, (20000,)),
    ),
    "create": (
        "0100001682fb0000 00000001 0000000000000002 000001a1fd1a56d5 00000001",
        f"00000002 2f70 00000005 68656c6c6f {OPEN_HEX} 00 00000001",
        Txn(2, SESSION, 1, 1795247724245, op.CREATE, (b"/p", b"hello", OPEN, False, 1)),
    ),
    "create2": (
        "0100001682fb0000 0000000b 000000000000000c 000001a1fd1a5725 0000000f",
        f"00000008 2f63726561746532 00000002 6332 {OPEN_HEX} 00 00000003",
        Txn(12, SESSION, 11, 1795247724325, op.CREATE2, (b"/create2", b"c2", OPEN, False, 3)),
    ),
    "error": (
        "0100001682fb0000 0000000e 000000000000000f 000001a1fd1a572e ffffffff",
        "fffffff8",
        Txn(15, SESSION, 14, 1795247724334, op.ERROR, (-8,)),
    ),
    "createContainer": (
        "0100001682fb0000 00000010 0000000000000011 000001a1fd1a5754 00000013",
        f"00000005 2f636f6e74 00000009 636f6e7461696e6572 {OPEN_HEX} 00000007",
        Txn(17, SESSION, 16, 1795247724372, op.CREATE_CONTAINER,
            (b"/cont", b"container", OPEN, 7)),
    ),
    "createTTL": (
        "0100001682fb0000 00000013 0000000000000014 000001a1fd1a5760 00000015",
        f"00000004 2f74746c 00000008 6c6f6e672074746c {OPEN_HEX} 00000009 000000000036ee80",
        Txn(20, SESSION, 19, 1795247724384, op.CREATE_TTL,
            (b"/ttl", b"long ttl", OPEN, 9, 3600000)),
    ),
    "setData": (
        "0100001682fb0000 00000015 0000000000000016 000001a1fd1a5769 00000005",
        "00000002 2f70 00000008 736574206f6e6365 00000001",
        Txn(22, SESSION, 21, 1795247724393, op.SET_DATA, (b"/p", b"set once", 1)),
    ),
    "delete": (
        "0100001682fb0000 00000023 0000000000000024 000001a1fd1a5785 00000002",
        "00000006 2f64656c2f61",
        Txn(36, SESSION, 35, 1795247724421, op.DELETE, (b"/del/a",)),
    ),
    "setACL": (
        "0100001682fb0000 00000028 0000000000000029 000001a1fd1a578f 00000007",
        "00000006 2f702f737562 00000002 0000001f 00000005 776f726c64 00000006 616e796f6e65"
        "0000001f 00000002 6970 00000009 3132372e302e302e31 00000001",
        Txn(41, SESSION, 40, 1795247724431, op.SET_ACL,
            (b"/p/sub", b"\0\0\0\2" + OPEN[4:] + b"\0\0\0\x1f\0\0\0\2ip\0\0\0\t127.0.0.1", 1)),
    ),
    "multi that failed": (
        "0100001682fb0000 00000032 0000000000000033 000001a1fd1a57ad 0000000e",
        "00000004 00000001 00000033"
        f"0000000b 2f6d2f77696c6c6661696c 00000000 {OPEN_HEX} 00 00000004"
        "00000005 00000012 00000002 2f6d 00000004 6e6f7065 00000002"
        "ffffffff 00000004 ffffff99 ffffffff 00000004 fffffffe",
        Txn(51, SESSION, 50, 1795247724461, op.MULTI, ([
            (op.CREATE, (b"/m/willfail", b"", OPEN, False, 4)),
            (op.SET_DATA, (b"/m", b"nope", 2)),
            (op.ERROR, (-103,)),
            (op.ERROR, (-2,)),
        ],)),
    ),
    "multi of a check": (
        "0100001682fb0000 00000033 0000000000000034 000001a1fd1a57b0 0000000e",
        "00000001 0000000d 0000000a 00000002 2f6d 00000002",
        Txn(52, SESSION, 51, 1795247724464, op.MULTI, ([(op.CHECK, (b"/m", 2))],)),
    ),
    "closeSession": (
        "0100001682fb0001 00000004 0000000000000039 000001a1fd1a57ba fffffff5",
        "00000003 00000005 2f702f6561 00000009 2f636f6e742f656132"
        "00000010 2f702f65612d30303030303030303038",
        Txn(57, SESSION + 1, 4, 1795247724474, op.CLOSE_SESSION,
            ([b"/p/ea", b"/cont/ea2", b"/p/ea-0000000008"],)),
    ),
    "deleteContainer": (
        "0000000000000000 00000000 000000000000003e 000001a1fd1a5a2e 00000014",
        "00000005 2f636f6e74",
        Txn(62, 0, 0, 1795247725102, op.DELETE_CONTAINER, (b"/cont",)),
    ),
}  # fmt: skip
# What a leader with digests on appends: version 2 and the tree digest. This one is of zxid 2.
DIGEST = bytes.fromhex("00000002 0000000105b86e15")


@pytest.mark.parametrize("name", LOGGED)
def test_a_txn_has_apaches_bytes(name: str) -> None:
    header, body, txn = LOGGED[name]
    encoded = bytes.fromhex(header + body)
    assert txns.decode(encoded) == txn
    assert txns.encode(txn) == encoded
    assert txns.zxid_of(encoded) == txn.zxid


@pytest.mark.parametrize("name", LOGGED)
def test_a_digest_behind_it_is_passed_over(name: str) -> None:
    header, body, txn = LOGGED[name]
    assert txns.decode(bytes.fromhex(header + body) + DIGEST) == txn


@pytest.mark.parametrize("name", [name for name in LOGGED if name != "closeSession"])
def test_a_txn_that_is_cut_short_is_refused(name: str) -> None:
    header, body, _ = LOGGED[name]
    encoded = bytes.fromhex(header + body)
    # Without its last field a create is one of before 3.3.3.
    least = len(encoded) - 4 * (name in ("create", "create2"))
    for size in range(least):
        with pytest.raises(RemoteProtocolError):
            txns.decode(encoded[:size])


@pytest.mark.parametrize("behind", [b"", DIGEST])
def test_a_close_without_a_body_lists_no_paths(behind: bytes) -> None:
    """closeSessionTxn.enabled=false; a digest in the body's place is not taken for paths."""
    header, _, txn = LOGGED["closeSession"]
    assert txns.decode(bytes.fromhex(header) + behind) == txn._replace(body=([],))


def test_a_create_of_before_3_3_3_has_no_version_of_the_parent() -> None:
    header, body, txn = LOGGED["create"]
    old = bytes.fromhex(header + body)[:-4]
    assert txns.decode(old).body == (*txn.body[:4], -1)


def test_a_txn_of_an_unknown_type_is_refused() -> None:
    header, body, _ = LOGGED["delete"]
    with pytest.raises(RemoteProtocolError, match="type 99"):
        txns.decode(bytes.fromhex(header[:-8] + "00000063" + body))
