"""The invariants of one server hold for the clients of a follower, too: the same tests.

A follower's writes go to the leader and come back; sessions live where the leader says so.
"""

from __future__ import annotations

import pytest

from tests.ensemble.ensemble import Ensemble, Member
from tests.invariants.test_ephemerals_die import (
    test_a_session_that_pings_keeps_its_nodes,
    test_ephemerals_die,
)
from tests.invariants.test_never_back import (
    test_never_back,
    test_who_has_seen_more_than_the_server_is_turned_away,
)
from tests.invariants.test_one_owner import (
    test_no_connection_acts_after_the_session_has_moved_on,
    test_the_old_connection_is_closed_before_the_new_one_is_told,
)
from tests.invariants.test_read_your_replica import (
    test_a_new_session_sees_it_too,
    test_read_your_replica,
)
from tests.invariants.test_session_order import (
    test_a_read_in_a_pipeline_sees_exactly_the_writes_before_it,
    test_pings_and_auth_do_not_wait_and_disturb_nothing,
    test_session_order,
)
from tests.invariants.test_watch_first import test_a_one_shot_watch_tells_once, test_watch_first

__all__ = [
    "test_a_new_session_sees_it_too",
    "test_a_one_shot_watch_tells_once",
    "test_a_read_in_a_pipeline_sees_exactly_the_writes_before_it",
    "test_a_session_that_pings_keeps_its_nodes",
    "test_ephemerals_die",
    "test_never_back",
    "test_no_connection_acts_after_the_session_has_moved_on",
    "test_pings_and_auth_do_not_wait_and_disturb_nothing",
    "test_read_your_replica",
    "test_session_order",
    "test_the_old_connection_is_closed_before_the_new_one_is_told",
    "test_watch_first",
    "test_who_has_seen_more_than_the_server_is_turned_away",
]


@pytest.fixture
def replica(three: Ensemble) -> Member:
    """The follower that all of these tests talk to."""
    return three.followers()[0]
