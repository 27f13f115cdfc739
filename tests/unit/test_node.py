"""tree/node.py: a node's value, field by field and change by change."""

from __future__ import annotations

import struct
from typing import Any
from zlib import crc32

import pytest

from zkstore.tree import node as nodes

STAT = struct.Struct(">qqqqiiiqiiq")
SESSION = 0x100000000000001
LONG = b"n" * 300


def stat(value: bytes) -> dict[str, int]:
    names = ("czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion", "owner",
             "length", "children", "pzxid")  # fmt: skip
    return dict(zip(names, STAT.unpack(value[nodes.STAT]), strict=True))


def made(path: bytes = b"/a", data: bytes | None = b"data", **fields: Any) -> bytes:
    given: dict[str, Any] = {"zxid": 5, "time_ms": 1000, "owner": 0, "acl_id": -1} | fields
    return nodes.create(path, data, **given)


def set_data(value: bytes, path: bytes, data: bytes | None, **fields: Any) -> tuple[bytes, int]:
    given: dict[str, Any] = {"zxid": 9, "time_ms": 2000, "version": 1} | fields
    return nodes.with_data(value, nodes.unpack(value), path, data, **given)


def test_a_new_node() -> None:
    assert stat(made()) == {
        "czxid": 5, "mzxid": 5, "ctime": 1000, "mtime": 1000, "version": 0, "cversion": 0,
        "aversion": 0, "owner": 0, "length": 4, "children": 0, "pzxid": 5,
    }  # fmt: skip
    assert nodes.data_of(made()) == b"data"


def test_set_data_touches_data_mzxid_mtime_and_version() -> None:
    value, digest = set_data(made(), b"/a", b"longer data")
    assert stat(value) == stat(made()) | {"mzxid": 9, "mtime": 2000, "version": 1, "length": 11}
    assert nodes.data_of(value) == b"longer data"
    assert digest == nodes.digest_of(value)


def test_set_acl_touches_aversion_alone() -> None:
    value = nodes.with_acl(made(), b"/a", acl_id=7, aversion=3)
    assert stat(value) == stat(made()) | {"aversion": 3}
    assert nodes.unpack(value)[nodes.ACL_ID] == 7


def test_children_touch_cversion_and_pzxid() -> None:
    value = nodes.with_children(made(), b"/a", cversion=4, children=1, pzxid=9)
    assert stat(value) == stat(made()) | {"cversion": 7, "children": 1, "pzxid": 9}
    assert nodes.unpack(value)[nodes.CVERSION] == 4


def test_the_shown_cversion_wraps_as_javas_int() -> None:
    value = nodes.with_children(made(), b"/a", cversion=2147483647, children=0, pzxid=9)
    assert stat(value)["cversion"] == -2


@pytest.mark.parametrize("data", [b"", b"x", None])
@pytest.mark.parametrize("path", [b"/a", b"/a/" + LONG])
def test_null_empty_and_other_data(path: bytes, data: bytes | None) -> None:
    name = LONG if path.endswith(LONG) else None
    value = made(path, data, long_name=name)
    assert nodes.data_of(value) == data
    assert nodes.data_id_of(value) == 0
    if name:
        assert nodes.long_name_of(value) == name
    changed, _ = set_data(value, path, data)
    assert nodes.data_of(changed) == data
    if name:
        assert nodes.long_name_of(changed) == name


@pytest.mark.parametrize("path", [b"/a", b"/a/" + LONG])
def test_data_that_lives_apart(path: bytes) -> None:
    name = LONG if path.endswith(LONG) else None
    value = made(path, b"y" * 5000, data_id=77, long_name=name)
    assert len(value) < 500
    assert stat(value)["length"] == 5000
    assert nodes.data_id_of(value) == 77
    for changed in (
        nodes.with_acl(value, path, acl_id=1, aversion=1),
        nodes.with_children(value, path, cversion=1, children=1, pzxid=9),
    ):
        assert nodes.data_id_of(changed) == 77
        assert nodes.intact(changed, path, b"y" * 5000)
    again, _ = set_data(value, path, b"z" * 4000, data_id=78)
    assert nodes.data_id_of(again) == 78
    inline, _ = set_data(again, path, b"small")
    assert nodes.data_id_of(inline) == 0
    assert nodes.data_of(inline) == b"small"


def test_owners() -> None:
    """E10, E11, E12: only a session is shown."""
    ephemeral = made(owner=SESSION)
    container = made(owner=nodes.CONTAINER_OWNER)
    ttl = made(owner=nodes.ttl_owner((1 << 40) - 1))
    assert [stat(value)["owner"] for value in (ephemeral, container, ttl)] == [SESSION, 0, 0]
    assert nodes.is_ephemeral(SESSION) and nodes.is_ephemeral(0x7F << 56)
    assert nodes.is_ephemeral(-(1 << 63) + 1)  # a session of server 128
    for owner in (0, nodes.CONTAINER_OWNER, nodes.ttl_owner(1)):
        assert not nodes.is_ephemeral(owner)
    assert nodes.is_ttl(nodes.ttl_owner(1)) and not nodes.is_ttl(nodes.CONTAINER_OWNER)
    assert not nodes.is_ttl(SESSION)
    assert nodes.ttl_ms_of(nodes.ttl_owner(86_400_000)) == 86_400_000
    assert nodes.ttl_owner(600) == 0xFF00_0000_0000_0258 - (1 << 64)


def digest(path: bytes, data: bytes, value: bytes) -> int:
    f = nodes.unpack(value)
    fields = struct.pack(">qqqqqiiiq", f[6], f[7], f[16], f[8], f[9], f[10], f[3], f[12], f[4])
    return crc32(path + data + fields)


@pytest.mark.parametrize("path", [b"/a", b"/zookeeper"])
def test_the_digest_is_apaches(path: bytes) -> None:
    assert nodes.digest_of(made(path)) == digest(path, b"data", made(path))
    value = nodes.with_children(made(path), path, cversion=4, children=1, pzxid=9)
    assert nodes.digest_of(value) == digest(path, b"data", value)
    value = nodes.with_acl(value, path, acl_id=2, aversion=2)
    assert nodes.digest_of(value) == digest(path, b"data", value)
    value, _ = set_data(value, path, b"")
    assert nodes.digest_of(value) == digest(path, b"", value)
    value, _ = set_data(value, path, None)
    assert nodes.digest_of(value) == digest(path, b"", value)


def test_the_root_counts_under_its_other_name_and_the_servers_own_nodes_not_at_all() -> None:
    assert nodes.digest_of(made(b"/")) == digest(b"", b"data", made(b"/"))
    for path in (b"/zookeeper/config", b"/zookeeper/quota/a"):
        value, changed = set_data(made(path), path, b"x")
        assert (nodes.digest_of(value), changed) == (0, 0)
        assert nodes.intact(value, path, b"x")


@pytest.mark.parametrize("path", [b"/", b"/a", b"/zookeeper/quota", b"/a/" + LONG])
def test_intact_sees_damage(path: bytes) -> None:
    name = LONG if path.endswith(LONG) else None
    value = made(path, b"data", long_name=name)
    assert nodes.intact(value, path, b"data")
    assert not nodes.intact(value, path, b"dato")
    if not path.startswith(b"/zookeeper/"):
        assert not nodes.intact(value, path + b"x", b"data")
        for at in range(nodes.HEAD_BYTES, nodes.HEAD_BYTES + 32):  # the zxids and times
            damaged = value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
            assert not nodes.intact(damaged, path, b"data"), at


def test_a_node_comes_back_from_what_a_snapshot_keeps() -> None:
    value = nodes.with_children(made(owner=SESSION), b"/a", cversion=4, children=2, pzxid=9)
    value = nodes.with_acl(value, b"/a", acl_id=3, aversion=1)
    kept = nodes.persisted_of(value)
    assert nodes.restored(b"/a", b"data", kept, children=2) == value
