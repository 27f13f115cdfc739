"""Our learner hears what Apache's leaders said, and says what Apache's learners said.

Each captured connection of a learner is played to zab/learner.py: what it sends is compared with
what the real learner sent, what it logs and commits with what the leader proposed and committed.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.golden.quorum_captures import CAPTURES, directions, packets
from zkstore.proto import quorum as q
from zkstore.proto.quorum import Packet
from zkstore.zab.learner import Learner
from zkstore.zab.membership import Membership
from zkstore.zab.proposals import Log
from zkstore.zab.ready import HardState, Proposal
from zkstore.zab.timing import Timing

MEMBERS: Final = Membership.parse(
    "".join(f"server.{n}=h:1:2:{'observer' if n == 4 else 'participant'}\n" for n in (1, 2, 3, 4))
)
# What the server above says, or the real one said for itself.
NOT_OURS: Final = {q.PING, q.REQUEST, q.REVALIDATE}


class Stands:
    """A history of which only the end matters: the learner's tree stands there."""

    first = 1
    tree_bytes = 0

    def __init__(self, last: int) -> None:
        self.last = last

    def holds(self, zxid: int) -> bool:
        return zxid <= self.last

    def last_before(self, zxid: int) -> int:
        return zxid - 1

    def read(self, after: int, bytes_max: int) -> list[Proposal]:
        return []

    def bytes_after(self, zxid: int) -> int:
        return 0


class Played:
    """One learner, driven through a leader's packets; every Ready is done at once."""

    def __init__(self, said: list[Packet]) -> None:
        """`said`: what the real one sent; how it began is taken from there."""
        info, promise = said[0], next(one for one in said if one.type == q.ACKEPOCH)
        current = q.decode_int(promise.data)
        hard = HardState(info.zxid >> 32, max(current, info.zxid >> 32 if current == -1 else 0))
        self.history = Stands(promise.zxid)
        self.log = Log(self.history, hard, promise.zxid, promise.zxid, [])
        self.sent: list[Packet] = []
        self.logged: list[int] = []
        self.committed: list[int] = []
        self.learner = Learner(
            q.LearnerInfo.decode(info.data).sid, MEMBERS, Timing(), self.log,
            link=-1, leader_sid=3, observer=info.type == q.OBSERVERINFO,
        )  # fmt: skip
        self.learner.opened()

    def hear(self, packet: Packet) -> None:
        self.learner.packet(packet)
        self.perform()

    def perform(self) -> None:
        self.learner.flush()
        while (ready := self.log.take()) is not None:
            self.sent += [packet for _, packet in ready.send + ready.send_after_sync]
            if ready.truncate_after is not None:
                self.history.last = min(self.history.last, ready.truncate_after)
            self.logged += [proposal.zxid for proposal in ready.append]
            self.committed += [proposal.zxid for proposal in ready.committed]
            if ready.committed:
                self.history.last = ready.committed[-1].zxid
            self.log.done(ready)
            if ready.receive_snapshot is not None:
                self.history.last = ready.receive_snapshot.zxid
                self.learner.snapshot_received()
            self.learner.flush()


def connections() -> list[tuple[str, list[Packet], list[Packet]]]:
    """(name, what the learner said, what its leader said), whole from the beginning."""
    found = []
    for capture in CAPTURES:
        ways = {
            (direction.name, direction.dialled): packets(direction.content)[0]
            for direction in directions(capture)
            if direction.port.startswith("q")
        }
        for (name, dialled), said in ways.items():
            heard = ways.get((name, False), [])
            if dialled and any(one.type == q.ACKEPOCH for one in said):
                found.append((f"{capture} {name}", said, heard))
    return found


CONNECTIONS: Final = connections()


@pytest.mark.parametrize(("name", "said", "heard"), CONNECTIONS, ids=[c[0] for c in CONNECTIONS])
def test_a_learner_of_apache(name: str, said: list[Packet], heard: list[Packet]) -> None:
    played = Played(said)
    for packet in heard:
        played.hear(packet)
    ours = [(one.type, one.zxid) for one in played.sent if one.type not in NOT_OURS]
    theirs = [(one.type, one.zxid) for one in said if one.type not in NOT_OURS]
    # The real one's last words may be cut off; 3.8.0 acknowledges each txn of a DIFF as well, and
    # when is a race.
    acks = [one for one in ours if one[0] == q.ACK]
    real = [one for one in theirs if one[0] == q.ACK and one in acks]
    assert ours[:2] == theirs[:2]
    assert acks[: len(real)] == real
    if "mix" not in name:
        assert ours[: len(theirs)] == theirs
    informs = (q.INFORM, q.INFORMANDACTIVATE)
    proposed = [one.zxid for one in heard if one.type in (q.PROPOSAL, *informs)]
    assert played.logged == [zxid for zxid in proposed if zxid in set(played.logged)]
    commits = (q.COMMIT, q.COMMITANDACTIVATE, *informs)
    over = [one.zxid for one in heard if one.type in commits]
    if any(one.type == q.UPTODATE for one in heard):
        assert played.committed == [zxid for zxid in over if zxid in set(played.logged)]
        assert played.learner.live


def test_there_are_learners_of_all_kinds() -> None:
    """The control: the captures hold both kinds of learners, and txns to log and commit."""
    kinds = {said[0].type for _, said, _ in CONNECTIONS}
    assert kinds == {q.FOLLOWERINFO, q.OBSERVERINFO}
    assert len(CONNECTIONS) > 20
    assert sum(one.type == q.COMMIT for _, _, heard in CONNECTIONS for one in heard) > 500
