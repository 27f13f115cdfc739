"""The synchronous face, against every kind of server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.client.servers import Running
from zkstore.client import (
    CREATOR,
    JSON,
    READ_ONLY,
    AuthFailed,
    BadVersion,
    ClientClosed,
    EventType,
    NodeExists,
    NoNode,
    OperationTimeout,
    State,
    SyncClient,
)


def test_every_operation(address: str) -> None:
    with SyncClient(address) as client:
        assert client.state is State.CONNECTED
        assert client.session_timeout_ms == 10_000
        client.create("/a/b", b"1", parents=True)
        assert client.get("/a/b").value == b"1"
        assert client.set("/a/b", b"2", 0).version == client.get_version("/a/b") == 1
        typed = client.typed(JSON)
        typed.create("/a/c", [1, None], ephemeral=True, sequential=True)
        assert client.children("/a") == ["b", "c0000000001"]
        assert [node.value for node in client.nodes("/a")] == [b"2", b"[1,null]"]
        assert [node.name for node in typed.nodes("/a", after="b")] == ["c0000000001"]
        client.sync()
        client.add_auth("digest", b"me:secret")
        stat = client.set_acl("/a/b", CREATOR)
        assert client.get_acl("/a/b")[0][0].scheme == "digest"
        client.set_acl("/a/b", READ_ONLY, stat.aversion)
        client.delete("/a/b")
        assert client.exists("/a/b") is None
        with pytest.raises(NoNode):
            client.get("/a/b")


def test_transactions(address: str) -> None:
    with SyncClient(address) as client:
        with client.transaction() as both:
            both.create("/a", b"1")
            both.set("/a", b"2")
        assert [outcome.path for outcome in both.results] == ["/a", "/a"]
        with pytest.raises(BadVersion), client.transaction() as both:
            both.check("/a", 5)
            both.delete("/a")
        with pytest.raises(KeyError), client.transaction() as both:
            both.delete("/a")
            raise KeyError
        assert client.get("/a").value == b"2"


def test_changes(address: str) -> None:
    with SyncClient(address) as client, SyncClient(address) as writer:
        node = client.observe("/a")
        names = client.observe_children("/")
        assert next(node) is None
        assert next(names) == []
        with client.watch("/a") as events:
            with pytest.raises(OperationTimeout):
                node.next(0.02)
            writer.create("/a", b"1")
            seen = next(node)
            assert seen is not None and seen.value == b"1"
            assert next(names) == ["a"]
            assert next(events).type is EventType.CREATED
        assert next(iter(client.states())) is State.CONNECTED


def test_many_threads_share_a_client(address: str) -> None:
    with SyncClient(address) as client, ThreadPoolExecutor(8) as pool:
        client.create("/counter", b"0")
        won = []

        def work(number: int) -> None:
            client.create(f"/{number}", b"%d" % number)
            assert client.get(f"/{number}").value == b"%d" % number
            try:
                client.create("/only-one")
                won.append(number)
            except NodeExists:
                pass

        list(pool.map(work, range(200)))
        assert len(won) == 1
        assert len(client.children("/")) == 202


def test_nothing_waits_for_a_closed_client(embedded: str) -> None:
    client = SyncClient(embedded)
    client.connect()
    observation = client.observe("/none")
    assert next(observation) is None
    ended = []

    def wait() -> None:
        with pytest.raises(ClientClosed):
            next(observation)
        ended.append(True)

    waiting = threading.Thread(target=wait)
    waiting.start()
    client.close()
    waiting.join(60)
    assert ended
    with pytest.raises(ClientClosed):
        client.get("/")
    client.close()
    assert client.state is State.CLOSED


def test_a_client_that_is_not_connected_says_so(embedded: str) -> None:
    client = SyncClient(embedded)
    with pytest.raises(ClientClosed):
        client.get("/")
    client.close()


def test_states_end(embedded: str) -> None:
    with SyncClient(embedded) as client:
        states = client.states()
        assert next(states) is State.CONNECTED
        with pytest.raises(AuthFailed):
            client.add_auth("no such scheme", b"")
        assert list(states)[-1] is State.AUTH_FAILED


def test_a_failed_connect_leaves_no_thread(shared_server: Running) -> None:
    before = set(threading.enumerate())
    client = SyncClient("127.0.0.1:1", operation_timeout_s=0.2)
    with pytest.raises(OperationTimeout):
        client.connect()
    client = SyncClient(shared_server.address, auth=[("no such scheme", b"")])
    with pytest.raises(AuthFailed):
        client.connect()
    # A server in this process has threads of its own, which come and go.
    left = set(threading.enumerate()) - before
    assert "zkstore-client" not in {thread.name for thread in left}
