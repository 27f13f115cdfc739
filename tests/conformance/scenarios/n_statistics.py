"""Section N, the words about watches, statistics and the machine.

Source: reference parity N; org.apache.zookeeper.server.command.
"""

from __future__ import annotations

import re

from tests.conformance import requests as r
from tests.conformance.scenario import Scenario, on_server, scenario
from tests.conformance.scenarios.n_words import mask, note_lines, until_alone


def _watch_words(s: Scenario) -> None:
    for word in ("wchs", "wchc", "wchp"):
        s.section(word)
        note_lines(s, "\n".join(_by_name(mask(s, s.socket().word(word)))))


def _by_name(text: str) -> list[str]:
    """The lines with each head and its indented lines sorted, as both come from hash tables."""
    groups: list[list[str]] = []
    for line in text.split("\n"):
        if line.startswith("\t"):
            groups[-1].append(line)
        else:
            groups.append([line])
    listed = [[head, *sorted(lines)] for head, *lines in groups]
    first = sorted(group for group in listed if len(group) > 1)
    return [line for group in first + [g for g in listed if len(g) == 1] for line in group]


@on_server(fresh=True)
def watches(s: Scenario) -> None:
    until_alone(s)
    _watch_words(s)
    first, second = s.client(), s.client()
    first.call(r.create("/t"))
    first.call(r.get_data("/t", True))
    first.call(r.exists("/t/missing", True))
    first.call(r.get_children("/t", True))
    second.call(r.get_data("/t", True))
    second.call(r.get_children("/", True))
    _watch_words(s)
    s.section("persistent and recursive")
    second.call(r.add_watch("/t/p", 0))
    second.call(r.add_watch("/t/r", 1))
    _watch_words(s)
    s.section("one fired, one gone with its connection")
    first.call(r.set_data("/t", b"1"))
    first.events()
    second.call(r.close_session())
    second.expect_close()
    _watch_words(s)


@on_server(fresh=True)
def resets(s: Scenario) -> None:
    until_alone(s)
    client = s.client()
    client.call(r.create("/t"))
    client.call(r.exists("/t", True))
    client.call(r.ping())
    for word in ("crst", "srst"):
        s.section(word)
        note_lines(s, s.socket().word(word))
        text = re.sub(r"\[\d\]", "[n]", mask(s, s.socket().word("cons")))
        s.note("|".join(sorted(line for line in text.split("\n") if line)))
        text = s.socket().word("srvr")
        latency = next(line for line in text.split("\n") if line.startswith("Latency"))
        s.note(re.sub(r"[\d.]+/[\d.]+/[\d.]+", "a/b/c", latency))
    client.call(r.exists("/t"))
    lines = mask(s, s.socket().word("cons")).split("\n")
    s.note("|".join(line for line in lines if "sid=" in line))


@on_server(fresh=True)
def dirs(s: Scenario) -> None:
    note_lines(s, re.sub(r"\d+", "N", s.socket().word("dirs")))


@on_server(fresh=True)
def environment(s: Scenario) -> None:
    text = s.socket().word("envi")
    s.note(text.split("\n")[0])
    keys = re.findall(r"^([a-z.]+)=.", text, re.MULTILINE)
    s.note(" ".join(keys))
    s.note(f"ends with a newline: {text.endswith(chr(10)) and not text.endswith(2 * chr(10))}")


@on_server(fresh=True)
def trace_mask(s: Scenario) -> None:
    def bits(value: int) -> str:
        return "stmk" + value.to_bytes(8, "big", signed=True).decode()

    for word in ("gtmk", bits(16), "gtmk", bits(127), "gtmk", bits(306)):
        note_lines(s, s.socket().word(word))
    s.note("in pieces")
    pieces = s.socket()
    pieces.connection.send_raw(b"stmk\0\0\0")
    note_lines(s, pieces.word("\0\0\0\0\7"))


@on_server(fresh=True)
def digests(s: Scenario) -> None:
    note_lines(s, s.socket().word("hash"))
    client = s.client()
    for _ in range(3):
        client.quietly(*[r.set_data("/", b"") for _ in range(100)])
    for line in s.socket().word("hash").split("\n"):
        s.note(re.sub(r": -?[0-9a-f]+$", ": D", line))
        digest = line.partition(": ")[2]
        s.note(f"hexadecimal: {not digest.lstrip('-').isdecimal()}" if digest else "no more")


@scenario
def words_no_server_knows(s: Scenario) -> None:
    for word in ("kill", "reqs", "stmt"):
        note_lines(s, s.socket().word(word))
