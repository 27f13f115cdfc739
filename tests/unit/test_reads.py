"""frontend/reads.py: answers over one view, and the watches that they leave.

What each operation answers is compared with Apache in tests/conformance; here are the rules that
hold for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.conformance import requests as r
from tests.conformance.wire import i32
from tests.property.stored import SESSION, create, open_writer, perform, txn
from zkstore.errors import Code, RemoteProtocolError, ZooKeeperError
from zkstore.frontend import reads
from zkstore.frontend.client import Client
from zkstore.proto import opcodes as op
from zkstore.storage.writer import Writer
from zkstore.tree import acl as acls
from zkstore.tree.acl import Acl
from zkstore.tree.auth import DigestProvider, Identity, IpProvider, Providers
from zkstore.tree.watches import Watches

ANNE: Identity = (b"digest", b"anne:x")
HERS = acls.encode(((31, *ANNE),))


class FakeWorker:
    def __init__(self) -> None:
        self.watches = Watches()
        self.providers = Providers([IpProvider(), DigestProvider("SHA1", "")])


class FakeClient:
    """What reads need of a client."""

    def __init__(self, *identities: Identity) -> None:
        self.worker = FakeWorker()
        self.identities = ((b"ip", b"127.0.0.1"), *identities)
        self.session_id = SESSION
        self.watched_paths: set[bytes] = set()
        self.sent: list[bytes] = []

    def require(self, acl: Acl, perm: int) -> None:
        if not acls.allows(acl, perm, self.identities, self.worker.providers):
            raise ZooKeeperError(Code.NO_AUTH)

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = open_writer(tmp_path)
    perform(
        writer, create(1, b"/a", b"data"), create(2, b"/a/b"), create(3, b"/e", ephemeral=True),
        create(4, b"/eb", ephemeral=True),
        txn(5, op.CREATE, b"/hers", b"", HERS, False, -1), create(6, b"/hers/below"),
    )  # fmt: skip
    yield writer
    writer.close()


def ask(writer: Writer, request: r.Request, client: FakeClient | None = None) -> bytes:
    """The reply's body."""
    frame = i32(1) + i32(request.opcode) + request.body
    with writer.views.open() as view:
        handler = reads.HANDLERS[request.opcode]
        return handler(view, cast(Client, client or FakeClient()), frame)


def code_of(writer: Writer, request: r.Request, client: FakeClient | None = None) -> Code:
    with pytest.raises(ZooKeeperError) as refused:
        ask(writer, request, client)
    return refused.value.code


READS = [r.get_data, r.exists, r.get_children, r.get_children2]


@pytest.mark.parametrize("read", READS, ids=lambda read: read.__name__)
def test_a_read_that_succeeds_sets_its_watch_in_its_table(writer: Writer, read: Any) -> None:
    client = FakeClient()
    ask(writer, read("/a"), client)
    assert not client.worker.watches
    ask(writer, read("/a", True), client)
    kind = 1 if "children" in read.__name__ else 2
    assert client.worker.watches.has(client, b"/a", kind)
    assert client.worker.watches.counts()[0] == 1


@pytest.mark.parametrize("read", READS, ids=lambda read: read.__name__)
def test_what_is_not_there_is_watched_by_exists_alone(writer: Writer, read: Any) -> None:
    client = FakeClient()
    assert code_of(writer, read("/none", True), client) == Code.NO_NODE
    assert client.worker.watches.has(client, b"/none", 2) == (read is r.exists)


@pytest.mark.parametrize("read", READS, ids=lambda read: read.__name__)
def test_what_may_not_be_read_is_not_watched(writer: Writer, read: Any) -> None:
    client = FakeClient()
    assert code_of(writer, read("/hers", True), client) == Code.NO_AUTH
    assert not client.worker.watches
    ask(writer, read("/hers", True), FakeClient(ANNE))
    ask(writer, read("/hers/below"), client)  # rights are not inherited


@pytest.mark.parametrize(
    "request_",
    [r.get_data(None), r.exists(None), r.get_children(None), r.get_acl(None),
     r.get_all_children_number(None), r.add_watch("/a", 2), r.check_watches("/a", 0),
     r.remove_watches("/a", 6), r.multi_read(r.create("/x"))],
    ids=lambda request: request.text,
)  # fmt: skip
def test_bodies_that_are_refused(writer: Writer, request_: r.Request) -> None:
    with pytest.raises(RemoteProtocolError):
        ask(writer, request_)


@pytest.mark.parametrize("opcode", sorted(set(reads.HANDLERS) - {op.WHO_AM_I}))
def test_a_body_that_ends_early_is_refused(writer: Writer, opcode: int) -> None:
    with pytest.raises(RemoteProtocolError):
        ask(writer, r.raw(opcode, b"\0\0"))


def test_an_acl_is_shown_to_readers_and_administrators_only(writer: Writer) -> None:
    assert code_of(writer, r.get_acl("/hers")) == Code.NO_AUTH
    assert ask(writer, r.get_acl("/hers"), FakeClient(ANNE)).startswith(HERS)
    assert ask(writer, r.get_acl("/a")).startswith(acls.OPEN_ENCODED)


def test_ephemerals_by_prefix_of_the_text(writer: Writer) -> None:
    def owned(prefix: str | None) -> bytes:
        return ask(writer, r.get_ephemerals(prefix))

    both = i32(2) + i32(2) + b"/e" + i32(3) + b"/eb"
    assert [owned(prefix) for prefix in (None, "", " ", "/", "/e")] == [both] * 5
    assert owned("/eb") == i32(1) + i32(3) + b"/eb"
    assert owned("/none") == i32(0)


def test_all_children_of_a_node_and_of_the_root_under_both_names(writer: Writer) -> None:
    def number(path: str) -> bytes:
        return ask(writer, r.get_all_children_number(path))

    assert number("/a") == i32(1)
    assert number("/e") == i32(0)
    assert number("/") == i32(6 + 3)
    assert number("") == i32(6 + 4)  # quirk of Apache: it counts itself there


def test_multi_read_answers_each_on_its_own(writer: Writer) -> None:
    operations = (r.get_children("/a"), r.get_data("/none"), r.get_data("/hers"))
    body = ask(writer, r.multi_read(*operations))
    assert body == (
        i32(op.GET_CHILDREN) + b"\0" + i32(0) + i32(1) + i32(1) + b"b"
        + i32(-1) + b"\0" + i32(-101) + i32(-101)
        + i32(-1) + b"\0" + i32(-102) + i32(-102)
        + i32(-1) + b"\1" + i32(-1)
    )  # fmt: skip


@pytest.mark.parametrize(("since", "told"), [(0, 3), (2, 1)])
def test_set_watches_tells_what_changed_meanwhile_and_registers_the_rest(
    writer: Writer, since: int, told: int
) -> None:
    client = FakeClient()
    request = r.set_watches(since, zxid_text="", data=["/a"], exist=["/none"], child=["/a", "/e"])
    assert ask(writer, request, client) == b""
    # /a was made by zxid 1 and got a child by 2; /e was made by 3, later than either.
    assert len(client.sent) == told
    assert client.worker.watches.has(client, b"/none", 2)
    assert client.worker.watches.has(client, b"/a", 2) == (since == 2)
    assert client.worker.watches.has(client, b"/a", 1) == (since == 2)
    assert not client.worker.watches.has(client, b"/e", 1)
