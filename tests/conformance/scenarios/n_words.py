"""Section N: the four-letter words, with what differs from run to run masked.

Source: reference parity N; org.apache.zookeeper.server.command.
"""

from __future__ import annotations

import re

from tests.conformance import requests as r
from tests.conformance.scenario import Client, Scenario, on_server, scenario, wait_until
from tests.conformance.wire import i32

_WORDS = ("ruok", "srvr", "stat", "mntr", "conf", "isro", "dump", "cons", "envi", "wchs", "wchc",
          "wchp", "dirs", "crst", "srst", "hash", "gtmk")  # fmt: skip

_MNTR_EXACT = (
    "zk_server_state",
    "zk_num_alive_connections",
    "zk_outstanding_requests",
    "zk_znode_count",
    "zk_watch_count",
    "zk_ephemerals_count",
    "zk_approximate_data_size",
    "zk_global_sessions",
    "zk_local_sessions",
)
_MNTR_PRESENT = (
    "zk_version",
    "zk_avg_latency",
    "zk_max_latency",
    "zk_min_latency",
    "zk_packets_received",
    "zk_packets_sent",
    "zk_open_file_descriptor_count",
    "zk_max_file_descriptor_count",
    "zk_uptime",
    "zk_last_client_response_size",
    "zk_min_client_response_size",
    "zk_max_client_response_size",
    "zk_connection_drop_probability",
    "zk_outstanding_tls_handshake",
)


def note_lines(s: Scenario, text: str) -> None:
    """Note a word's answer line by line; a missing newline at the end shows."""
    for line in text.split("\n"):
        s.note(f"|{line}")


def mask(s: Scenario, text: str) -> str:
    """Mask version, latencies, ports and counters; zxids and sessions become names."""
    text = re.sub(r"(Zookeeper version: ).*", r"\1V", text)
    text = re.sub(r"[\d.]+/[\d.]+/[\d.]+", "a/b/c", text)
    text = re.sub(r"((?:Received|Sent): )\d+", r"\1N", text)
    text = re.sub(r"(Zxid: |lzxid=)0x([0-9a-f]+)", lambda m: m[1] + _zxid(s, m[2]), text)
    session = re.compile(r"(sid=|sessionId: |^\t?)0x([0-9a-f]+)", re.MULTILINE)
    text = session.sub(lambda m: m[1] + _sid(s, m[2]), text)
    text = re.sub(r"/127\.0\.0\.1:\d+", "/127.0.0.1:P", text)
    text = re.sub(r"queued=\d+", "queued=N", text)
    return re.sub(r"(est|lresp|llat|minlat|avglat|maxlat)=-?\d+", r"\1=N", text)


def _zxid(s: Scenario, digits: str) -> str:
    value = int(digits, 16)
    return s.names.zxid(value if value < 1 << 63 else value - (1 << 64))


def _sid(s: Scenario, digits: str) -> str:
    value = int(digits, 16)
    return s.names.session(value if value < 1 << 63 else value - (1 << 64))


def _field(text: str, name: str) -> int:
    found = re.search(rf"{name}: (\d+)", text)
    assert found, text
    return int(found[1])


def until_alone(s: Scenario) -> None:
    """Wait until the connections of the harness are gone from the server's count."""
    wait_until(lambda: _field(s.socket().word("srvr"), "Connections") == 1)


@scenario
def ruok_and_isro(s: Scenario) -> None:
    for word in ("ruok", "isro"):
        note_lines(s, s.socket().word(word))
    s.note("with a newline behind, in pieces, in capitals, unknown")
    note_lines(s, s.socket().word("ruok\n"))
    pieces = s.socket()
    pieces.connection.send_raw(b"ru")
    note_lines(s, pieces.word("ok"))
    for word in ("RUOK", "abcd", "ruo\n"):
        note_lines(s, s.socket().word(word))


@scenario
def word_after_the_handshake_is_a_frame(s: Scenario) -> None:
    client = s.client()
    client.send_bytes(b"ruok" + i32(7) + i32(4), "ruok and the header of a request")
    client.expect_close()


@on_server(fresh=True)
def srvr(s: Scenario) -> None:
    until_alone(s)
    note_lines(s, mask(s, s.socket().word("srvr")))
    client = s.client()
    client.call(r.create("/t"))
    note_lines(s, mask(s, s.socket().word("srvr")))


@on_server(fresh=True)
def received_and_sent(s: Scenario) -> None:
    until_alone(s)
    client = s.client()
    before = s.socket().word("srvr")
    for request in (r.create("/t"), r.exists("/t", True), r.ping(), r.set_data("/t", b"")):
        client.call(request)
    after = s.socket().word("srvr")
    for name in ("Received", "Sent"):
        s.note(f"{name} +{_field(after, name) - _field(before, name)}")


@on_server(fresh=True)
def stat(s: Scenario) -> None:
    until_alone(s)
    client = s.client()
    client.call(r.create("/t"))
    text = mask(s, s.socket().word("stat"))
    head, clients = text.split("Clients:\n")
    lines, tail = clients.split("\n\n")
    note_lines(s, "\n".join([head + "Clients:", *sorted(lines.split("\n")), "", tail]))


@on_server(fresh=True)
def cons(s: Scenario) -> None:
    until_alone(s)
    client = s.client()
    for request in (
        None,
        r.ping(),
        r.create("/t"),
        r.create2("/t/a"),
        r.create_container("/t/c"),
        r.create_ttl("/t/l", ttl_ms=3_600_000),
        r.set_data("/t", b""),
        r.set_acl("/t", r.OPEN),
        r.exists("/t"),
        r.get_data("/t"),
        r.get_acl("/t"),
        r.get_children("/t"),
        r.get_children2("/t"),
        r.get_all_children_number("/t"),
        r.get_ephemerals(None),
        r.sync("/t"),
        r.multi(r.check("/t")),
        r.multi_read(r.get_data("/t")),
        r.set_watches(0, zxid_text="0"),
        r.set_watches(0, zxid_text="0", persistent=[]),
        r.add_watch("/t", 0),
        r.check_watches("/t", 3),
        r.remove_watches("/t", 3),
        r.who_am_i(),
        r.delete("/t/a"),
        r.auth("digest", b"a:b"),
    ):
        if request is not None:
            client.call(request)
        text = mask(s, s.socket().word("cons"))
        s.note("|".join(sorted(line for line in text.split("\n") if line)))
    s.note(f"ends with an empty line: {text.endswith(f'){chr(10)}{chr(10)}')}")


@on_server(fresh=True)
def dump(s: Scenario) -> None:
    until_alone(s)
    client = s.client()
    client.call(r.create("/a", flags=r.EPHEMERAL))
    client.call(r.create("/b", flags=r.EPHEMERAL))
    lines = mask(s, s.socket().word("dump")).split("\n")
    date = r"\d+ expire at \w{3} \w{3} \d\d \d\d:\d\d:\d\d \S+ \d{4}:"
    s.note(f"dates as Java prints them: {any(re.fullmatch(date, line) for line in lines)}")
    kept = [re.sub(r"Sets \(\d+\)/\((\d+)\)", r"Sets (N)/(\1)", line) for line in lines]
    note_lines(s, "\n".join(_sorted_runs([line for line in kept if " expire at " not in line])))


def _sorted_runs(lines: list[str]) -> list[str]:
    """The lines with each run of indented ones sorted."""
    result: list[str] = []
    run: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("\t"):
            run.append(line)
        else:
            result += [*sorted(run), line]
            run = []
    return result[:-1]


@on_server(fresh=True)
def conf(s: Scenario) -> None:
    text = s.socket().word("conf")
    text = re.sub(r"(clientPort=)\d+", r"\1P", text)
    text = re.sub(r"(data(?:Log)?Dir=).*/(.*)", r"\1.../\2", text)
    note_lines(s, re.sub(r"((?:Dir|Log)Size=)\d+", r"\1N", text))


@on_server(fresh=True)
def mntr(s: Scenario) -> None:
    until_alone(s)
    client = s.client()
    client.call(r.create("/t", b"0123456789"))
    client.call(r.create("/t/e", flags=r.EPHEMERAL))
    client.call(r.get_data("/t", True))
    client.call(r.get_children("/t", True))
    client.call(r.add_watch("/t/x", 0))
    values = mntr_values(s.socket())
    for name in _MNTR_EXACT:
        s.note(f"{name}\t{values.get(name)}")
    for name in _MNTR_PRESENT:
        s.note(f"{name} {'is there' if name in values else 'missing'}")


def mntr_values(client: Client) -> dict[str, str]:
    lines = client.word("mntr").strip().split("\n")
    assert all("\t" in line for line in lines), lines
    return dict(line.split("\t", 1) for line in lines)


@on_server(settings={"4lw.commands.whitelist": "ruok, conf"})
def whitelist(s: Scenario) -> None:
    _note_which_are_answered(s)


@on_server(settings={"4lw.commands.whitelist": ""})
def empty_whitelist(s: Scenario) -> None:
    _note_which_are_answered(s)


def _note_which_are_answered(s: Scenario) -> None:
    for word in (*_WORDS, "stmk"):  # a refused stmk waits for no mask
        answer = s.socket().word(word)
        s.note(f"{word}: {answer if 'not executed' in answer else 'answered'}".rstrip("\n"))
