"""`zkstore admin` and the socket it speaks through: settings by name, sessions, connections."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zkstore
from tests.conformance import requests
from tests.conformance.requests import EPHEMERAL
from tests.conformance.wire import ClosedError, Connection, connect_request, i32
from tests.faults.bystander import ask, error_of
from tests.unit.fakes.replica import wait_for
from zkstore import admin_socket
from zkstore.commit import control, live
from zkstore.server import admin, config_keys

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[zkstore.Server]:
    with zkstore.Server(tmp_path, disk_reserve_bytes=0, super_digest="super:secret=") as one:
        yield one


class Console:
    """The command, as typed."""

    def __init__(self, server: zkstore.Server, capsys: Captured) -> None:
        self._server = server
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        """(exit code, output, complaint)"""
        code = admin.main(["--data-dir", self._server.data_dir, *words])
        shown = self._capsys.readouterr()
        return code, shown.out.rstrip("\n"), shown.err.rstrip("\n")

    def does(self, *words: str) -> str:
        code, output, complaint = self.run(*words)
        assert (code, complaint) == (0, "")
        return output

    def asks(self, *words: str) -> Any:
        return json.loads(self.does("--json", *words))


@pytest.fixture
def console(server: zkstore.Server, capsys: Captured) -> Console:
    return Console(server, capsys)


def connect(server: zkstore.Server) -> tuple[Connection, str]:
    """A connection, and its session's id as the command shows it."""
    connection = Connection(("127.0.0.1", server.port))
    session = connection.handshake(connect_request(timeout_ms=20_000))
    return connection, f"{session.session_id:#x}"


def is_ended(connection: Connection) -> bool:
    try:
        connection.recv(60)
    except ClosedError:
        return True
    return False


# ---- settings


def test_all_settings_have_a_value_in_the_words_of_zoo_cfg(console: Console) -> None:
    answer = console.asks("get")
    assert [one["name"] for one in answer] == sorted(config_keys.UNDERSTOOD)
    for one in answer:
        if one["value"] not in ("", "(not shown)"):
            config_keys.UNDERSTOOD[one["name"]].read(one["value"])
    assert "secret" not in json.dumps(answer)
    assert {one["name"] for one in answer if one["live"]} == live._LIVE | live._LIVE_ALONE
    assert "dataLogDir=  (at the start only)\n" in console.does("get")


def test_a_name_may_be_that_of_the_manual_or_of_the_property(console: Console) -> None:
    assert console.does("set", "connectionMaxTokens", "70") == "0 -> 70"
    assert console.does("get", "connection_throttle_tokens") == "70"
    assert console.does("get", "zookeeper.connection_throttle_tokens") == "70"


@pytest.mark.parametrize("name", sorted(live._LIVE | live._LIVE_ALONE))
def test_each_live_setting_can_be_set_to_what_it_is(console: Console, name: str) -> None:
    value = console.does("get", name)
    before, after = console.asks("set", name, value).values()
    assert before == value
    assert set(after.split(",")) >= set(value.split(","))  # srvr stays whitelisted


def test_the_bounds_of_sessions_are_those_in_force(
    server: zkstore.Server, console: Console
) -> None:
    assert console.does("get", "minSessionTimeout") == "6000"
    assert console.does("set", "minSessionTimeout", "30000") == "6000 -> 30000"
    connection = Connection(("127.0.0.1", server.port))
    assert connection.handshake(connect_request(timeout_ms=100)).timeout_ms == 30_000
    connection.close()
    assert console.does("set", "tickTime", "4000") == "3000 -> 4000"
    assert console.does("get", "maxSessionTimeout") == "80000"


def test_a_limit_is_in_force_at_once(server: zkstore.Server, console: Console) -> None:
    console.does("set", "maxClientCnxns", "1")
    first, _ = connect(server)
    second = Connection(("127.0.0.1", server.port))
    second.send(connect_request())
    assert is_ended(second)
    console.does("set", "maxClientCnxns", "2")
    third, _ = connect(server)
    for one in (first, third):
        assert error_of(ask(one, requests.exists("/"))) == 0
        one.close()


def test_the_whitelist_of_words(server: zkstore.Server, console: Console) -> None:
    assert console.does("set", "4lw.commands.whitelist", "ruok, conf") == "* -> ruok,conf,srvr"
    connection = Connection(("127.0.0.1", server.port))
    connection.send_raw(b"stat")
    assert b"not in the whitelist" in connection.recv_all()


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["set", "dataDir", "/x"], "dataDir cannot be changed while the server runs: change it in"),
        (["set", "maxCnxns", "few"], "maxCnxns=few: expected a whole number from"),
        (["set", "maxCnxns", "9" * 30], "expected a whole number from"),
        (["set", "request_throttle_drop_stale", "maybe"], "expected true or false"),
        (["set", "minSessionTimeout", "600000"], "must not be larger than maxSessionTimeout"),
        (["set", "snapCount", "5"], "snapCount has no effect in this version: there are no"),
        (["set", "autopurge.purgeInterval", "1"], "is read at the start only"),
        (["set", "maxClientCnxn", "1"], "did you mean maxClientCnxns?"),
        (["get", "sesame"], "sesame is not a setting of ZooKeeper that zkstore knows"),
        (["get", "tickTime", "2"], "get takes 0 to 1 arguments, not 2"),
        (["set", "tickTime"], "set takes 2 arguments, not 1"),
        (["reset", "everything"], "everything cannot be reset; auth-failed, connections,"),
        (["terminate-session", "first"], "first: expected a session id, such as 0x100001"),
        (["set", "ensembleAuthName", "x" * 70_000], "the arguments are too long"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    console: Console, words: list[str], complaint: str
) -> None:
    before = console.does("get")
    code, output, said = console.run(*words)
    assert (code, output) == (2, "")
    assert complaint in said and said.startswith("zkstore: ") and "\n" not in said
    assert console.does("get") == before


# ---- sessions and connections


def test_who_is_there(server: zkstore.Server, console: Console) -> None:
    one, session_id = connect(server)
    ask(one, requests.create("/mine", flags=EPHEMERAL))
    (session,) = console.asks("sessions")
    assert session["session_id"] == session_id
    assert (session["address"], session["timeout_ms"]) == ("127.0.0.1", 20_000)
    assert session["ephemerals"] == 1
    (connection,) = console.asks("connections")
    assert connection["session_id"] == session_id
    assert (connection["received"], connection["outstanding"]) == (2, 0)
    assert console.does("ephemerals") == f"{session_id}\n\t/mine"
    assert f"{session_id}  127.0.0.1  timeout 20000 ms" in console.does("sessions")
    assert f"session {session_id}, timeout 20000 ms" in console.does("connections")
    one.close()
    wait_for(lambda: console.asks("connections") == [])
    assert "not connected" in console.does("sessions")


def test_a_session_is_ended_with_its_ephemerals(server: zkstore.Server, console: Console) -> None:
    one, session_id = connect(server)
    other, _ = connect(server)
    ask(one, requests.create("/mine", flags=EPHEMERAL))
    assert console.does("terminate-session", session_id) == f"{session_id} is being closed"
    assert is_ended(one)
    assert error_of(ask(other, requests.exists("/mine"))) == -101
    assert console.run("terminate-session", session_id)[0] == 1
    assert console.run("terminate-session", "0xf000000000000001") == (
        1, "", "zkstore: there is no session 0xf000000000000001",
    )  # fmt: skip
    other.close()


def test_connections_are_ended_and_their_sessions_live(
    server: zkstore.Server, console: Console
) -> None:
    connections = [connect(server)[0] for _ in range(3)]
    address = console.asks("connections")[0]["address"]
    assert console.does("terminate-connection", address) == f"{address} ended"
    assert len(console.asks("connections")) == 2
    assert console.does("terminate-connection", "127.0.0.1").count(" ended") == 2
    assert all(map(is_ended, connections))
    assert len(console.asks("sessions")) == 3
    assert console.run("terminate-connection", "127.0.0.1")[::2] == (
        1, "zkstore: there is no connection from 127.0.0.1",
    )  # fmt: skip


def test_what_is_reset(server: zkstore.Server, console: Console) -> None:
    connection, _ = connect(server)
    for _ in range(10):
        ask(connection, requests.exists("/"))
    refused = Connection(("127.0.0.1", server.port))
    refused.handshake(connect_request())
    refused.send(i32(-4) + i32(100) + requests.auth("nobody", b"x").body)
    assert error_of(refused.recv()) == -115
    assert mntr(server)["zk_auth_failed_count"] == "1"
    for what in ("auth-failed", "connections", "latency", "max-latency", "statistics"):
        assert console.does("reset", what) == f"{what} reset"
    counts = mntr(server)
    assert counts["zk_auth_failed_count"] == "0"
    assert counts["zk_cnt_readlatency"] == "0"
    assert int(counts["zk_packets_received"]) < 10
    connection.close()


def mntr(server: zkstore.Server) -> dict[str, str]:
    connection = Connection(("127.0.0.1", server.port))
    connection.send_raw(b"mntr")
    rows = (line.partition("\t") for line in connection.recv_all().decode().splitlines())
    return {key: value for key, _, value in rows}


# ---- the socket


class Raw:
    """A connection to the admin socket, for what the command never sends."""

    def __init__(self, server: zkstore.Server) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(admin_socket.path_of(server.data_dir)))
        self._answers = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> Any:
        """None at the end."""
        line = self._answers.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\0\xff\xfe", b"[]", b"7", b"null", b'"get"', b"{}", b'{"do": 5}',
        b'{"do": "get", "arguments": {}}', b'{"do": "get", "arguments": [1]}',
        b'{"do": "__init__"}', b'{"do": "get"', b"[" * 30_000, b'{"do": "get", "arguments": [""]}',
    ],
)  # fmt: skip
def test_garbage_is_answered_and_the_connection_goes_on(
    server: zkstore.Server, line: bytes
) -> None:
    raw = Raw(server)
    raw.send(line + b"\n")
    answer = raw.answer()
    assert "error" in answer or line.endswith(b'[""]}')
    raw.send(b'{"do": "get", "arguments": ["tickTime"]}\n')
    assert raw.answer()["answer"][0]["value"] == "3000"
    raw.close()


def test_a_line_without_end_ends_the_connection(server: zkstore.Server) -> None:
    raw = Raw(server)
    raw.send(b"x" * (admin_socket.LINE_BYTES_MAX + 10_000))
    assert raw.answer() == {"error": "the request is too long", "wrong": True}
    assert raw.answer() is None
    raw.close()


def test_too_many_connections_and_silent_ones(
    server: zkstore.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [Raw(server) for _ in range(control.CONNECTIONS_MAX)]
    for one in many:
        one.send(b'{"do": "get", "arguments": ["tickTime"]}\n')
        assert one.answer() is not None
    beyond = Raw(server)
    assert beyond.answer() is None
    with monkeypatch.context() as impatient:  # of whom it has answered from now on
        impatient.setattr(control, "IDLE_SECONDS", 0.3)
        for one in many:
            one.send(b'{"do": "get", "arguments": ["tickTime"]}\n')
            assert one.answer() is not None
        assert [one.answer() for one in many] == [None] * len(many)
    again = Raw(server)
    again.send(b'{"do": "sessions"}\n')
    assert again.answer() == {"answer": []}
    for one in (*many, beyond, again):
        one.close()


def test_only_the_owner_may_use_it_and_it_goes_with_the_server(tmp_path: Path) -> None:
    path = admin_socket.path_of(str(tmp_path))
    with zkstore.Server(tmp_path, disk_reserve_bytes=0):
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600
    assert not path.exists()


def test_a_killed_servers_socket_is_in_nobodys_way(tmp_path: Path, capsys: Captured) -> None:
    path = admin_socket.path_of(str(tmp_path))
    with zkstore.Server(tmp_path, disk_reserve_bytes=0):
        pass
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert admin.main(["--data-dir", str(tmp_path), "sessions"]) == 1
    assert f"no server answers at {path}: Connection refused" in capsys.readouterr().err
    with zkstore.Server(tmp_path, disk_reserve_bytes=0):
        assert admin.main(["--data-dir", str(tmp_path), "get", "tickTime"]) == 0
    assert capsys.readouterr().out == "3000\n"


def test_a_data_directory_with_a_long_path(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / ("long" * 40)
    with zkstore.Server(folder, disk_reserve_bytes=0):
        assert len(os.fsencode(admin_socket.path_of(str(folder)))) > 160
        assert admin.main(["--data-dir", str(folder), "get", "tickTime"]) == 0
    assert capsys.readouterr().out == "3000\n"


def test_the_configuration_says_where_the_server_is(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "zoo.cfg"
    path.write_text(f"dataDir={tmp_path / 'data'}\nclientPort=2181\n")
    with zkstore.Server(tmp_path / "data", disk_reserve_bytes=0):
        assert admin.main(["--config", str(path), "get", "tickTime"]) == 0
    assert admin.main(["--config", str(path), "get", "tickTime"]) == 1
    assert admin.main(["--config", str(tmp_path / "none"), "get"]) == 2
    with pytest.raises(SystemExit) as ended:
        admin.main(["dance"])
    assert ended.value.code == 2
    capsys.readouterr()
