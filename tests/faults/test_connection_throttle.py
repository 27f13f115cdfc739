"""More clients at once than connection_throttle_tokens lets in: a limit of the whole replica."""

from __future__ import annotations

from pathlib import Path

from tests.conformance import requests
from tests.conformance.wire import Connection
from tests.faults.bystander import UNFLUSHED, ask, error_of
from tests.faults.test_floods import greeted
from tests.invariants.replica import Replica

TOKENS = 20
FLOOD = 60
SETTINGS = {
    **UNFLUSHED,
    "connection_throttle_tokens": str(TOKENS),
    "connection_throttle_fill_time": "2000000000",  # ms: none comes back during the test
}


def test_only_so_many_clients_get_in_through_whatever_worker(tmp_path: Path) -> None:
    """Those that are in are served; the counts are the replica's, not one worker's."""
    with Replica(tmp_path, 2, SETTINGS) as replica:
        before = replica.mntr()
        left = TOKENS - int(before["zk_connection_request_count"])  # starting it took some
        flood = [Connection(replica.address) for _ in range(FLOOD)]
        accepted = [one for one in flood if greeted(one)]
        after = replica.mntr()
        assert len(accepted) == left
        assert int(after["zk_connection_rejected"]) == FLOOD - left
        assert int(after["zk_connection_request_count"]) == TOKENS
        assert int(after["zk_max_connection_token_deficit"]) == TOKENS
        assert "127.0.0.1" in replica.output
        assert "(connection_throttle_tokens)" in replica.output
        for one in accepted:
            assert error_of(ask(one, requests.exists("/"))) == 0
            one.close()
