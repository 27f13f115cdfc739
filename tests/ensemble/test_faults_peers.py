"""Bad peers, wrong ids and wrong clocks: they are named in the log, and clients notice nothing."""

from __future__ import annotations

import random
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.ensemble.ensemble import Ensemble, Member
from tests.ensemble.test_failover import agree, writes_on
from tests.ensemble.writers import Writer, client_of
from tests.faults.bystander import Bystanders
from tests.invariants.replica import Peak, wait_for
from tests.ports import free_ports
from zkstore.constants import ELECTION_STRANGERS_MAX, NOTIFICATION_BYTES_MAX
from zkstore.proto import quorum as q
from zkstore.proto.quorum import LearnerInfo, Notification, Packet, Role

_SECONDS: Final = 3.0  # of trouble
_DIAL_SECONDS: Final = 30.0
_OWNER_SECONDS: Final = 30.0  # the timeout of a session that must not end
_MANY: Final = 200  # connections
_TURNS_MAX: Final = 6
_MEMORY_BYTES: Final = 64 << 20
_LINES: Final = 150  # in a log, of all that happens to a replica in such a test
_HELLO: Final = q.encode_hello(2, "127.0.0.1", 1)
_VOTE: Final = Notification(Role.LOOKING, 2, 1 << 60, 1 << 60, 1 << 30).encode()


def ports(member: Member) -> tuple[int, int]:
    """(quorum port, election port)."""
    config = (member.data_dir.parent / "zoo.cfg").read_text()
    found = re.search(rf"^server\.{member.sid}=127\.0\.0\.1:(\d+):(\d+)", config, re.MULTILINE)
    assert found is not None
    return int(found[1]), int(found[2])


def greeting(sid: int) -> bytes:
    return q.encode(Packet(q.FOLLOWERINFO, 0, LearnerInfo(sid, q.ZKSTORE_PROTOCOL).encode()))


def garbage(seed: int) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.choice((1, 8, 60, 5000))) for _ in range(50)]


QUORUM: Final = {
    "garbage": garbage(1),
    "oversize": [struct.pack(">iqi", q.FOLLOWERINFO, 0, 0x7FFFFFFF) + bytes(100_000)] * 20,
    "a request of a client": [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] * 20,
    "out of turn": [q.encode(Packet(q.ACK, 1 << 60)), q.encode(Packet(q.REQUEST, -1, b"x"))] * 10,
    "a stranger": [greeting(77)] * 5,
    "a member that is there": [greeting(sid) for sid in (1, 2, 3)],
    "a promise too great": [
        q.encode(Packet(q.FOLLOWERINFO, -1, LearnerInfo(77, q.ZKSTORE_PROTOCOL).encode()))
    ],
}
ELECTION: Final = {
    "garbage": garbage(2),
    "oversize": [_HELLO + struct.pack(">i", NOTIFICATION_BYTES_MAX + 1) + bytes(100_000)] * 20,
    "a request of a client": [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] * 20,
    "a stranger's vote": [
        q.encode_hello(77, "127.0.0.1", 1) + struct.pack(">i", len(_VOTE)) + _VOTE
    ]
    * 5,
    "a liar's vote": [_HELLO + struct.pack(">i", len(_VOTE)) + _VOTE] * 5,
}
BAD: Final = [
    *((0, name, content) for name, content in QUORUM.items()),
    *((1, name, content) for name, content in ELECTION.items()),
]


@pytest.mark.parametrize(("port", "name", "content"), BAD, ids=[f"{p}-{n}" for p, n, _ in BAD])
def test_bad_bytes(three: Ensemble, port: int, name: str, content: list[bytes]) -> None:
    """Garbage, and what is well said at the wrong time, at the ports of all members."""
    leader = three.leader()
    lines = lines_of(three)
    with Bystanders(leader), ExitStack() as open_ones:
        for member in three.members.values():
            for one in content:
                sock = socket.create_connection(("127.0.0.1", ports(member)[port]), _DIAL_SECONDS)
                open_ones.enter_context(sock)
                with suppress(ConnectionError):  # it may have read enough
                    sock.sendall(one)
    assert leader.mode == "leader"
    assert all(one.mode for one in three.members.values())
    assert lines_of(three) - lines < _LINES


@pytest.mark.parametrize("port", [0, 1], ids=["quorum", "election"])
def test_many_that_are_silent_or_slow(three: Ensemble, port: int) -> None:
    leader = three.leader()
    begun = greeting(77) if port == 0 else _HELLO
    with Bystanders(leader), Peak(leader) as peak, ExitStack() as open_ones:
        socks = []
        for _ in range(_MANY):
            sock = socket.create_connection(("127.0.0.1", ports(leader)[port]), _DIAL_SECONDS)
            socks.append(open_ones.enter_context(sock))
        until = time.monotonic() + _SECONDS
        for at in range(len(begun) - 1):
            for sock in socks[: ELECTION_STRANGERS_MAX // 2]:
                try:
                    sock.send(begun[at : at + 1])
                except OSError:
                    continue  # closed, as it may be
            time.sleep(max(0.0, until - time.monotonic()) / len(begun))
    assert peak.growth < _MEMORY_BYTES
    assert leader.mode == "leader"


@contextmanager
def another(folder: Path, ensemble: Ensemble, sid: int) -> Iterator[Member]:
    """One more server that knows the members, but has an address of its own, and this id."""
    lines = {}
    for member in ensemble.members.values():
        quorum_port, election_port = ports(member)
        lines[f"server.{member.sid}"] = f"127.0.0.1:{quorum_port}:{election_port}"
    own = free_ports(2)
    lines[f"server.{sid}"] = f"127.0.0.1:{own[0]}:{own[1]}"
    member = Member(folder / "another", sid, lines)
    try:
        member.launch()
        yield member.await_ready()
    finally:
        member.kill_all()


def lines_of(ensemble: Ensemble) -> int:
    """In the log that has the most."""
    return max(one.output.count("\n") for one in ensemble.members.values())


@pytest.mark.parametrize("sid", [1, 2, 3])
def test_two_servers_with_the_same_id(tmp_path: Path, sid: int) -> None:
    with Ensemble(tmp_path, 3) as ensemble, Writer(ensemble.hosts, "writer") as writer:
        with another(tmp_path, ensemble, sid):
            until = time.monotonic() + _SECONDS
            while time.monotonic() < until:
                writes_on(writer)
        writes_on(writer)
        assert lines_of(ensemble) < _LINES
        writer.stop()
        agree(ensemble, writer)


def test_a_server_that_is_no_member(tmp_path: Path) -> None:
    with Ensemble(tmp_path, 3) as ensemble, Writer(ensemble.hosts, "writer") as writer:
        with another(tmp_path, ensemble, 4):
            wait_for(lambda: "server 4 is no member" in ensemble.leader().output)
            until = time.monotonic() + _SECONDS
            while time.monotonic() < until:
                writes_on(writer)
            # It counts for nothing: with it and the leader alone there is no quorum.
            leader = ensemble.leader()
            for other in ensemble.others(leader):
                other.kill_all()
            wait_for(lambda: leader.mode != "leader")
        assert lines_of(ensemble) < _LINES


_CLOCK: Final = """
import time
_now, _now_ns = time.time, time.time_ns
time.time = lambda: _now() + {hours} * 3600
time.time_ns = lambda: _now_ns() + {hours} * 3600 * 10**9
"""


def clock_of(member: Member) -> float:
    """What its log says that the time is, for its last line."""
    last = re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", member.output, re.MULTILINE)[-1]
    return time.mktime(time.strptime(last, "%Y-%m-%d %H:%M:%S"))


@pytest.mark.parametrize("hours", [-5, 30])
def test_a_clock_that_is_wrong_by_hours(
    tmp_path: Path, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a follower and as the leader: no session ends by it, and all agree."""
    with Ensemble(tmp_path, 3) as ensemble:
        owner = client_of(ensemble.hosts, _OWNER_SECONDS)
        owner.create("/owned", ephemeral=True)
        wrong = ensemble.members[3]
        (tmp_path / "sitecustomize.py").write_text(_CLOCK.format(hours=hours))
        wrong.kill_all()
        ensemble.leader(ensemble.others(wrong))  # else it may be back in time to lead again
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", str(tmp_path))
            wrong.start()
        assert abs(clock_of(wrong) - time.time() - hours * 3600) < 600
        with Writer(ensemble.hosts, "writer") as writer:
            wait_for(lambda: wrong.mode == "follower")
            writes_on(writer)
            # Of two that know as much the one with the greatest id leads next.
            for _ in range(_TURNS_MAX):
                leader = ensemble.leader()
                if leader is wrong:
                    break
                leader.kill_all()
                ensemble.leader(ensemble.others(leader))
                writes_on(writer)
                leader.start()
                ensemble.followers()
            assert wrong.mode == "leader"
            writes_on(writer)
            ensemble.others(wrong)[0].kill_all()
            writes_on(writer)
            ensemble.others(wrong)[0].start()
        agree(ensemble, writer)
        seen = client_of(ensemble.hosts)
        stat = seen.exists("/owned")
        assert stat is not None and stat.ephemeralOwner == owner.client_id[0]
        for client in (seen, owner):
            client.stop()
