"""Which sessions live, who owns them, and when each must die. Time comes in as milliseconds,
monotonic.

Owns:   the table of sessions of the server that leads; its durable twin is in the tree's file. Or
        the table of one server's local sessions; they have no twin.
Invariants:
  1. EphemeralsDie: a session expires only after its timeout has passed since it was last heard, and
     only once the place its connection hangs on has reported everything it heard up to then
     (`expired`'s `reported_ms`).
  2. A session that is closing is not closed twice; requests for it are refused.
Design: expiry times are rounded up to the tick, so that sessions expire in buckets (reference H4).
        A touch only writes the time down; the bucket is corrected when it falls due, so a busy
        session costs nothing.
Not here: createSession and closeSession txns (tree/prep.py), connections (commit/sessions.py).
Source: SessionTrackerImpl, ExpiryQueue.
"""

from __future__ import annotations

from collections.abc import Callable


class Session:
    """One session. `place` is where its connection is (opaque here), None while it has none."""

    __slots__ = ("closing", "heard_ms", "local", "place", "session_id", "timeout_ms")

    def __init__(self, session_id: int, timeout_ms: int, heard_ms: int) -> None:
        self.session_id = session_id
        self.timeout_ms = timeout_ms
        self.heard_ms = heard_ms
        self.place: object = None
        self.closing = False
        self.local = False  # no other server knows it


class Tracker:
    """All sessions by id, and their expiry buckets."""

    def __init__(self, tick_time_ms: int) -> None:
        self._tick_time_ms = tick_time_ms
        self._buckets: dict[int, set[int]] = {}  # expiry time, a multiple of the tick → session ids
        self.sessions: dict[int, Session] = {}

    def _due(self, session: Session) -> int:
        """When the session expires: its timeout after it was heard, rounded up to a tick."""
        return self._tick_after(session.heard_ms + session.timeout_ms)

    def _tick_after(self, at_ms: int) -> int:
        return (at_ms // self._tick_time_ms + 1) * self._tick_time_ms

    def add(self, session_id: int, timeout_ms: int, now_ms: int) -> Session:
        """A new session, or one read from the tree at start (with its full timeout)."""
        session = Session(session_id, timeout_ms, now_ms)
        self.adopt(session)
        return session

    def adopt(self, session: Session) -> None:
        """Take a session that another tracker had."""
        self.sessions[session.session_id] = session
        self._buckets.setdefault(self._due(session), set()).add(session.session_id)

    def touch(self, session_id: int, heard_ms: int) -> None:
        session = self.sessions.get(session_id)
        if session is not None and heard_ms > session.heard_ms:
            session.heard_ms = heard_ms

    def renegotiate(self, session: Session, timeout_ms: int, now_ms: int) -> None:
        """A client came back with a timeout of its own; it may be shorter than before."""
        session.timeout_ms = timeout_ms
        session.heard_ms = max(session.heard_ms, now_ms)
        self._buckets.setdefault(self._due(session), set()).add(session.session_id)

    def remove(self, session_id: int) -> None:
        """The session is closed; its bucket forgets it when it falls due."""
        self.sessions.pop(session_id, None)

    def expired(self, now_ms: int, reported_ms: Callable[[object], int]) -> list[Session]:
        """The sessions to close now; marks them as closing.

        reported_ms(place): up to when that place has reported which sessions it heard.
        """
        dead: list[Session] = []
        for due in [due for due in self._buckets if due <= now_ms]:
            for session_id in self._buckets.pop(due):
                session = self.sessions.get(session_id)
                if session is None or session.closing:
                    continue
                later = self._due(session)
                if later <= now_ms and (
                    session.place is None or reported_ms(session.place) >= later
                ):
                    session.closing = True
                    dead.append(session)
                else:
                    again = max(later, self._tick_after(now_ms))
                    self._buckets.setdefault(again, set()).add(session_id)
        return dead

    def tidy(self, now_ms: int) -> None:
        """Let the buckets that are due forget who is gone; nobody expires: a learner's tracker."""
        for due in [due for due in self._buckets if due <= now_ms]:
            for session_id in self._buckets.pop(due):
                session = self.sessions.get(session_id)
                if session is not None:
                    again = max(self._due(session), self._tick_after(now_ms))
                    self._buckets.setdefault(again, set()).add(session_id)

    @property
    def remembered(self) -> int:
        """How many entries the buckets have; some of sessions that are gone."""
        return sum(map(len, self._buckets.values()))

    def buckets(self) -> dict[int, list[int]]:
        """When which sessions expire as of now: what `dump` prints."""
        due: dict[int, list[int]] = {}
        for session in self.sessions.values():
            due.setdefault(self._due(session), []).append(session.session_id)
        return due
