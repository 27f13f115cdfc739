"""A tree goes from one replica to another: helpers, the switch, and all that may go wrong."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from tests.property.stored import create, open_writer, perform, proposals, txn
from tests.property.test_frozen import DEEP, LONG, freeze, stands
from zkstore.errors import CorruptionError, LogTrimmed
from zkstore.proto import opcodes as op
from zkstore.proto.quorum import SNAP, Packet, encode
from zkstore.storage import fuzzy, snapshot_in, snapshot_out, transfer
from zkstore.storage.env import storage_dir
from zkstore.storage.offline import Offline
from zkstore.storage.scrub import scrub
from zkstore.storage.stillcopy import copy_stopped
from zkstore.storage.writer import Writer
from zkstore.tree import acl as acls
from zkstore.tree.paths import split
from zkstore.zab.ready import HardState, Ready

SESSION = 0x100000000000001
E2 = 2 << 32
HEAD = encode(Packet(SNAP, 0, None, None))
BEYOND = b"packets that follow"
MINE = acls.encode(((31, b"digest", b"anne:x"),))


def silent(_what: str, _count: int) -> None:
    """Tells nobody."""


def grow(writer: Writer) -> None:
    """A tree with something of everything."""
    perform(writer, txn(1, op.CREATE_SESSION, 30_000), create(2, b"/a", b"1", ephemeral=True))
    perform(
        writer, create(3, b"/large", b"x" * 5000), create(4, b"/null", None),
        txn(5, op.CREATE_TTL, b"/ttl", b"", acls.OPEN_ENCODED, -1, 1000),
        txn(6, op.CREATE_CONTAINER, b"/c", b"", MINE, -1), create(7, b"/c/x"),
        create(8, b"/" + LONG),
        create(9, split(DEEP)[0]), create(10, DEEP), create(11, DEEP + b"/h", b"deep"),
        txn(12, op.SET_ACL, b"/null", MINE, 1), txn(13, op.DELETE, b"/c/x"),
    )  # fmt: skip


def stream_of(writer: Writer) -> bytes:
    """What a helper sends."""
    pieces: list[bytes] = []
    with freeze(writer) as tree:
        snapshot_out.send(tree, pieces.append, silent)
        head = encode(Packet(SNAP, tree.zxid, None, None))
    stream = b"".join(pieces)
    assert stream.startswith(head)
    return stream[len(head) :]


def receive(content: bytes, folder: Path, zxid: int, *, read_already: int = 0) -> bytes:
    """Take in a stream as generation 2 of a replica; returns what was read beyond it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def write() -> None:
            theirs.sendall(content[read_already:])
            theirs.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=write)
        sending.start()
        try:
            _, beyond = snapshot_in.receive(
                ours.fileno(), content[:read_already], folder,
                generation=2, zxid=zxid, map_size_bytes=1 << 30, progress=silent,
            )  # fmt: skip
            while piece := ours.recv(1 << 16):
                beyond += piece
            return beyond
        finally:
            ours.close()
            sending.join()


def learner(folder: Path) -> Writer:
    """A replica with a past of its own: applied, and in its journal."""
    writer = open_writer(folder, alone=False)
    for zxid in (1, 2):
        batch = proposals([create(zxid, b"/old%d" % zxid)])
        writer.perform(Ready(append=batch))
        writer.perform(Ready(committed=batch))
    writer.perform(
        Ready(append=proposals([create(3, b"/old3")]), hard_state=HardState(7, 6, whole=False))
    )
    return writer


def crash(writer: Writer) -> None:
    cast(Any, writer)._replica.abandon()


@pytest.fixture
def leader(tmp_path: Path) -> Any:
    writer = open_writer(tmp_path / "leader")
    grow(writer)
    yield writer
    writer.close()


@pytest.mark.parametrize("read_already", [0, 1, 1000])
def test_a_tree_comes_whole_and_takes_the_old_ones_place(
    leader: Writer, tmp_path: Path, read_already: int
) -> None:
    writer = learner(tmp_path / "learner")
    content = stream_of(leader) + BEYOND
    beyond = receive(content, tmp_path / "learner", 13, read_already=read_already)
    assert beyond == BEYOND
    assert writer.applied == 2 and len(writer.tail) == 1
    writer.switch(2, zxid=13, whole=False)
    wanted = {path: (shown(value), data) for path, (value, data) in stands(leader).items()}
    for _ in range(3):
        found = {path: (shown(value), data) for path, (value, data) in stands(writer).items()}
        assert found == wanted
        assert (writer.applied, list(writer.tail)) == (13, [])
        assert writer.hard_state == HardState(7, 6, whole=False)
        for name in ("nodes", "ephemerals", "bytes"):
            assert getattr(writer.totals, name) == getattr(leader.totals, name)
        assert (writer.totals.digest - leader.totals.digest) % (1 << 64) == 0
        with writer.views.open() as view:
            assert view.sessions() == [(SESSION, 30_000)]
            assert view.ephemerals(SESSION) == [b"/a"]
            assert list(scrub(view)) == []
            assert not view.log_covers(12) and view.log_covers(13)
        crash(writer)
        writer = open_writer(tmp_path / "learner", alone=False)
    names = sorted(path.name for path in storage_dir(tmp_path / "learner").iterdir())
    assert [name for name in names if name.startswith("data")] == ["data.2.mdb", "data.2.mdb-lock"]
    crash(writer)


_READER = """
import sys
from pathlib import Path
from zkstore.storage.env import open_reader
from zkstore.storage.view import Views
reader = open_reader(Path(sys.argv[1]))
views = Views(reader.env)
for line in sys.stdin:
    if line == "reopen\\n":
        views.reopen(reader.reopen())
    with views.open() as view:
        sys.stdout.write(f"{view.applied} {len(view.children(b'/'))}\\n")
        sys.stdout.flush()
"""


def test_a_worker_reads_the_old_tree_until_it_is_told(leader: Writer, tmp_path: Path) -> None:
    writer = learner(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-c", _READER, str(tmp_path)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip

    def ask(what: str) -> str:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(what + "\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    assert ask("look") == "2 3"
    receive(stream_of(leader), tmp_path, 13)
    assert ask("look") == "2 3"
    writer.switch(2, zxid=13, whole=True)
    assert ask("look") == "2 3"
    assert ask("reopen") == f"13 {len(names(leader))}"
    process.communicate(timeout=60)
    assert process.returncode == 0
    writer.close()


def names(writer: Writer) -> list[bytes]:
    with writer.views.open() as view:
        return view.children(b"/")


def shown(value: bytes) -> bytes:
    """A node's value without the id of its data, which is each replica's own."""
    return value if not value[4] & 2 else value[:-8]


def test_a_tree_that_came_goes_on(leader: Writer, tmp_path: Path) -> None:
    """Txns, epochs, checkpoints, truncation in the new generation."""
    writer = learner(tmp_path / "learner")
    receive(stream_of(leader), tmp_path / "learner", 13)
    writer.switch(2, zxid=13, whole=False)
    follow = proposals([create(14, b"/n14"), create(E2 | 1, b"/n21")])
    writer.perform(Ready(append=follow, hard_state=HardState(7, 7)))
    crash(writer)
    writer = open_writer(tmp_path / "learner", alone=False)
    assert [one.zxid for one in writer.tail] == [14, E2 | 1]
    assert writer.hard_state == HardState(7, 7)
    with pytest.raises(LogTrimmed):  # it is not known what was before these
        writer.perform(Ready(truncate_after=12))
    writer.perform(Ready(committed=follow[:1]))
    with pytest.raises(LogTrimmed):
        writer.perform(Ready(truncate_after=13))
    writer.perform(Ready(committed=follow[1:]))
    with writer.env.begin() as lmdb_txn:
        assert fuzzy.read(lmdb_txn) == fuzzy.Mark(False, E2 | 1)
    late = proposals([create(E2 | 2, b"/n22")])
    writer.perform(Ready(append=late))
    writer.perform(Ready(committed=late))
    writer.perform(Ready(truncate_after=E2 | 1))
    assert writer.applied == E2 | 1
    writer.close()


def test_what_a_fuzzy_tree_holds_already_comes_again(tmp_path: Path) -> None:
    """Apache's leader sends its tree while it goes on applying txns to it."""
    leader = open_writer(tmp_path / "leader")
    grow(leader)
    later = [
        txn(14, op.CREATE, b"/c/new", b"", acls.encode(((31, b"digest", b"b:y"),)), False, 2),
        txn(15, op.DELETE, b"/a"), txn(16, op.CLOSE_SESSION, []),
        txn(17, op.SET_DATA, b"/large", b"small", 1), create(18, b"/c/two"),
    ]  # fmt: skip
    perform(leader, *later)
    content = stream_of(leader)  # of 18, sent as the tree of 13
    writer = learner(tmp_path / "learner")
    receive(content, tmp_path / "learner", 13)
    writer.switch(2, zxid=13, whole=False)
    again = proposals(later)
    writer.perform(Ready(append=again, hard_state=HardState(7, 7)))
    writer.perform(Ready(committed=again))
    assert {p: (shown(v), d) for p, (v, d) in stands(writer).items()} == {
        p: (shown(v), d) for p, (v, d) in stands(leader).items()
    }
    assert (writer.totals.digest - leader.totals.digest) % (1 << 64) == 0
    with writer.views.open() as view:
        assert view.sessions() == [] and list(scrub(view)) == []
    writer.close()
    leader.close()


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_stream_that_ends_early_leaves_all_as_it_was(
    leader: Writer, tmp_path: Path, part: float
) -> None:
    writer = learner(tmp_path / "learner")
    content = stream_of(leader)
    with pytest.raises(CorruptionError, match="the leader's tree: offset"):
        receive(content[: int(len(content) * part)], tmp_path / "learner", 13)
    assert not [p for p in storage_dir(tmp_path / "learner").iterdir() if "new" in p.name]
    crash(writer)
    writer = open_writer(tmp_path / "learner", alone=False)
    assert (writer.applied, len(writer.tail)) == (2, 1)
    crash(writer)


def test_a_wrong_signature_and_a_tree_that_is_none_are_named(
    leader: Writer, tmp_path: Path
) -> None:
    writer = learner(tmp_path / "learner")
    content = stream_of(leader)
    with pytest.raises(CorruptionError, match="signature"):
        receive(content[:-1] + b"X", tmp_path / "learner", 13)
    with pytest.raises(CorruptionError, match="node /c is missing"):
        perform(leader, create(14, b"/c/y"))
        broken = stream_of(leader).replace(b"\0\0\0\2/c\0", b"\0\0\0\2/q\0")
        receive(broken, tmp_path / "learner", 14)
    crash(writer)


# ---- as processes


class Ended:
    """What came of a helper."""

    def __init__(self, aio: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[tuple[dict[str, Any], str]] = aio.create_future()

    def __call__(self, done: dict[str, Any], failed: str) -> None:
        self._future.set_result((done, failed))

    async def wait(self) -> tuple[dict[str, Any], str]:
        return await asyncio.wait_for(self._future, 90)


def send_job(folder: Path) -> dict[str, Any]:
    return {"data_dir": str(folder)}


def receive_job(folder: Path, rest: bytes = b"", zxid: int = 13) -> dict[str, Any]:
    return {
        "data_dir": str(folder), "rest": rest.hex(), "generation": 2, "zxid": zxid,
        "map_size_bytes": 1 << 30,
    }  # fmt: skip


def test_two_processes_do_it(leader: Writer, tmp_path: Path) -> None:
    async def run() -> tuple[Any, Any]:
        aio = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        sent, received = Ended(aio), Ended(aio)
        transfer.Transfer(
            aio, transfer.SEND, send_job(tmp_path / "leader"), os.dup(theirs.fileno()), sent
        )
        head = b""
        while len(head) < len(HEAD):
            head += await asyncio.to_thread(ours.recv, len(HEAD) - len(head))
        job = receive_job(tmp_path / "learner")
        transfer.Transfer(aio, transfer.RECEIVE, job, os.dup(ours.fileno()), received)
        result = await sent.wait(), await received.wait()
        ours.close()
        theirs.close()
        return result

    writer = learner(tmp_path / "learner")
    (sent, failed_to_send), (received, failed) = asyncio.run(run())
    assert (failed_to_send, failed) == ("", "")
    assert sent == {"zxid": 13, "nodes": leader.totals.nodes}
    assert received["nodes"] == leader.totals.nodes and received["rest"] == ""
    writer.switch(2, zxid=13, whole=True)
    assert len(stands(writer)) == len(stands(leader))
    writer.close()


@pytest.mark.parametrize("how", ["killed", "cut", "garbage"])
def test_a_helper_that_fails_says_so_and_leaves_nothing(tmp_path: Path, how: str) -> None:
    async def run() -> tuple[dict[str, Any], str]:
        aio = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ended = Ended(aio)
        helper = transfer.Transfer(
            aio, transfer.RECEIVE, receive_job(tmp_path, b"\0\0\0\0"), ours.detach(), ended
        )
        if how == "killed":
            helper.kill()
        elif how == "garbage":
            theirs.sendall(b"\xff" * 1000)
        theirs.close() if how == "cut" else None
        result = await ended.wait()
        theirs.close()
        return result

    writer = learner(tmp_path)
    done, failed = asyncio.run(run())
    assert done == {} and failed
    assert ("-9" in failed) == (how == "killed")
    assert how == "killed" or "the leader's tree: offset" in failed
    crash(writer)
    open_writer(tmp_path, alone=False).close()


def test_a_stopped_replica_in_the_midst_of_it_is_read_as_its_server_would(tmp_path: Path) -> None:
    """The journal's txns go over a tree that holds parts of them already."""
    leader = open_writer(tmp_path / "leader")
    grow(leader)
    made = txn(14, op.CREATE, b"/c/new", b"", acls.OPEN_ENCODED, False, 2)
    later = [made, txn(15, op.DELETE, b"/a"), txn(16, op.DELETE, b"/c/new")]
    perform(leader, *later)
    writer = learner(tmp_path / "learner")
    receive(stream_of(leader), tmp_path / "learner", 13)
    writer.switch(2, zxid=13, whole=False)
    writer.perform(Ready(append=proposals(later)))
    crash(writer)
    with Offline(tmp_path / "learner") as tree:
        assert (tree.applied, tree.totals.nodes) == (16, leader.totals.nodes)
        found = {path: shown(value) for path, value in tree.walk()}
        assert copy_stopped(tree, tmp_path / "copy", silent) == 16
    wanted = {path: shown(value) for path, (value, _) in stands(leader).items()}
    assert found == wanted
    copy = open_writer(tmp_path / "copy", alone=False)
    assert {path: shown(value) for path, (value, _) in stands(copy).items()} == wanted
    crash(copy)
    leader.close()
