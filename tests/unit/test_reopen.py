"""A worker over a tree that is replaced as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests.conformance import requests
from tests.property.stored import create, open_writer, perform
from tests.unit.stage import Stage, bytes_of
from tests.unit.test_transfer import receive, stream_of
from zkstore.commit.ports import Ports
from zkstore.commit.process import open_writer as open_server
from zkstore.proto import opcodes as op
from zkstore.records import ipc
from zkstore.settings import Settings
from zkstore.storage.disk import Disk
from zkstore.tree import acl as acls


@pytest.mark.parametrize("zxid", [1, 1 << 40])
def test_a_worker_goes_on_in_the_tree_that_came(tmp_path: Path, zxid: int) -> None:
    """Even to an earlier zxid, and with a watcher who is not gone yet."""
    settings = Settings(data_dir=str(tmp_path / "mine"), disk_reserve_bytes=1 << 20)
    opened = open_server(settings, Disk())
    stage = Stage(opened, settings)
    stage.commit(op.CREATE, b"/mine", b"", acls.OPEN_ENCODED, False, 1)
    stage.commit(op.CREATE, b"/more", b"", acls.OPEN_ENCODED, False, 2)
    client, _ = stage.connect()
    client.data_received(bytes_of(requests.exists("/mine", watch=True)))
    leader = open_writer(tmp_path / "leader")
    perform(leader, create(1, b"/theirs"))
    receive(stream_of(leader), tmp_path / "mine", zxid)
    leader.close()
    reserve_path = cast(Any, opened.reserve)._path
    opened.writer.switch(2, zxid=zxid, whole=True)
    assert cast(Any, opened.reserve)._path != reserve_path
    reopened: list[int] = []
    stage.worker.on_reopen = lambda: (reopened.append(1), stage.views.reopen(opened.writer.env))[0]
    stage.worker.on_message([zxid, ipc.REOPEN, 0, 0, None])
    assert reopened == [1]
    with stage.worker.view() as view:
        assert view.applied == zxid
        assert view.node(b"/theirs") is not None and view.node(b"/mine") is None
    opened.reserve.close()
    opened.writer.close()


def test_every_worker_is_told_before_anything_newer() -> None:
    class Channel:
        def __init__(self) -> None:
            self.sent: list[Any] = []

        def send(self, message: Any) -> None:
            self.sent.append(message)

    ports = Ports(per_address_max=0, total_max=0)
    channels = [Channel(), Channel()]
    for channel in channels:
        ports.add(cast(Any, channel), 0)
    ports.reopen(7)
    assert [channel.sent for channel in channels] == [[[7, ipc.REOPEN, 0, 0, None]]] * 2
