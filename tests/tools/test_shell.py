"""The shell's parts, and what Apache's does not have or does not survive."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import zkstore
from tests.ports import free_port
from tools.shell import grammar, text
from tools.shell.grammar import Option, Options, Refused, parse, words_of
from tools.shell.main import main
from zkstore.client import Acl, Perms, Stat, SyncClient
from zkstore.errors import Code

SECONDS_MAX: Final = 60.0
OPTIONS: Final = Options((Option("s", "stat"), Option("w", "watch"), Option("v", "v", True)))
ONE_OF: Final = Options((Option("n", "num", True), Option("b", "bytes", True)), True, True)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with zkstore.Server(tmp_path_factory.mktemp("data"), port=free_port()) as server:
        yield server.address


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(*arguments, lines=...) → (exit code, standard output, standard error)."""

    def run(*arguments: str, lines: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        code = main(["-server", address, *arguments])
        return code, *capsys.readouterr()

    return run


# ---- lines and options


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ls /", ["ls", "/"]),
        ("  create  /a   'two words' ", ["create", "/a", "two words"]),
        ('set /a ""', ["set", "/a", ""]),
        ("set /a it's", ["set", "/a", "it's"]),
        ("""set /a '"'""", ["set", "/a", '"']),
        ("   ", []),
        ("", []),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert words_of(line) == words


@given(st.text())
def test_any_line_has_words_or_none(line: str) -> None:
    assert isinstance(words_of(line), list)


@pytest.mark.parametrize(
    ("line", "arguments", "values"),
    [
        ("x -s /a", ["x", "/a"], {"s": ""}),
        ("x /a -sw", ["x", "/a"], {"s": "", "w": ""}),
        ("x -sv5 /a", ["x", "/a"], {"s": "", "v": "5"}),
        ("x -v5", ["x"], {"v": "5"}),
        ("x -v=5", ["x"], {"v": "5"}),
        ("x -v -5", ["x"], {"v": "-5"}),
        ("x -v -5 -v 6", ["x"], {"v": "-5"}),
        ("x -- -s -", ["x", "-s", "-"], {}),
    ],
)
def test_options(line: str, arguments: list[str], values: dict[str, str]) -> None:
    given = parse(OPTIONS, line.split())
    assert (given.arguments, given.values) == (arguments, values)


@pytest.mark.parametrize(
    ("options", "line", "problem"),
    [
        (OPTIONS, "x -q", "Unrecognized option: -q"),
        (OPTIONS, "x --stat", "Unrecognized option: --stat"),
        (OPTIONS, "x -sq", "Unrecognized option: -sq"),
        (OPTIONS, "x -s=1", "Unrecognized option: -s=1"),
        (OPTIONS, "x -v", "Missing argument for option: v"),
        (OPTIONS, "x -v -s", "Missing argument for option: v"),
        (ONE_OF, "x", "Missing required option: [-n num, -b bytes]"),
        (ONE_OF, "x -n 1 -b 2", "has already been selected: 'n'"),
    ],
)
def test_wrong_options(options: Options, line: str, problem: str) -> None:
    with pytest.raises(Refused, match=re.escape(problem)):
        parse(options, line.split())


@given(st.lists(st.text(alphabet="-svwn=1/ab", max_size=5)))
def test_any_words_are_parsed_or_refused(words: list[str]) -> None:
    try:
        given = parse(OPTIONS, words)
    except Refused as refused:
        assert str(refused)
    else:
        assert set(given.values) <= {"s", "v", "w"}


@pytest.mark.parametrize(
    ("word", "bits", "number"),
    [
        ("5", 32, 5),
        ("+5", 32, 5),
        ("-2147483648", 32, -(1 << 31)),
        ("2147483648", 32, None),
        ("9223372036854775807", 64, (1 << 63) - 1),
        ("9223372036854775808", 64, None),
        ("5 ", 32, None),
        ("٥", 32, None),
        ("", 32, None),
        ("1_0", 32, None),
    ],
)
def test_integers(word: str, bits: int, number: int | None) -> None:
    assert grammar.integer(word, bits) == number


# ---- texts


@given(st.text(alphabet="/.a\0\x7f", max_size=8))
def test_paths_that_pass_are_paths(path: str) -> None:
    try:
        text.check_path(path)
    except Refused:
        return
    names = path.split("/")[1:]
    assert path == "/" or all(names)
    assert not {".", ".."} & set(names)
    assert not {"\0", "\x7f"} & set(path)


def test_a_sequential_path_may_end_with_a_slash() -> None:
    text.check_path("/a/", sequential=True)


def test_every_code_has_words() -> None:
    for code in Code:
        assert text.failure(code, "/a")
        assert text.keeper_error(code, None).startswith("KeeperErrorCode = ")


@given(*[st.integers(-(1 << 63), (1 << 63) - 1)] * 3)
def test_any_stat_has_its_lines(zxid: int, time_ms: int, owner: int) -> None:
    lines = text.stat_lines(Stat(zxid, zxid, time_ms, time_ms, 0, 0, 0, owner, 0, 0, zxid))
    assert lines.count("\n") == 11
    assert "0x-" not in lines


def test_hex_dump() -> None:
    dump = text.hex_dump(bytes(range(48, 66)))
    assert dump.count("\n") == 5
    assert "|00000000| 30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f |0123456789:;<=>?|" in dump
    assert f"|00000010| 40 41 {' ' * 42}|@A              |" in dump


def test_acls() -> None:
    entries, complaints = text.parse_acl("world:anyone:cdrwa,digest:a:b:r,,bad,ip:1.2.3.4:")
    assert entries == [
        Acl(Perms.ALL, "world", "anyone"),
        Acl(Perms.READ, "digest", "a:b"),
        Acl(Perms(0), "ip", "1.2.3.4"),
    ]
    form = "does not have the form scheme:id:perm"
    assert complaints == [f" {form}", f"bad {form}"]
    assert text.acl_lines(entries[:1]) == "'world,'anyone\n: cdrwa\n"


# ---- what Apache's shell does not survive


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("set -v x / y", "-v argument must be an int value"),
        ("delete -v 2147483648 /", "-v argument must be an int value"),
        ("setAcl -v x / world:anyone:r", "-v argument must be an int value"),
        ("set -b / #", "The data is not base64"),
        ("addWatch nowhere", "Path must start with / character"),
        ("redo x", "Command index out of range"),
        ("connect :1", "server ':1'"),
    ],
)
def test_a_mistake_does_not_end_the_shell(run: Run, line: str, problem: str) -> None:
    code, out, err = run(lines=f"{line}\nls /\n")
    assert problem in err
    assert code == 0 and "[zookeeper" in out


def test_limits_that_are_none(run: Run, address: str) -> None:
    with SyncClient(address) as client:
        client.create("/limited")
        client.create("/zookeeper/quota/limited/zookeeper_limits", b"nonsense", parents=True)
    code, _, err = run("listquota", "/limited")
    assert code == 1 and "is not a quota" in err


# ---- what only ours has


def test_help(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run("help")
    assert (code, err) == (0, "") and "\tls [-s] [-w] [-R] path\n" in out
    assert main(["--help"]) == 0
    assert "usage: zkstore shell " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-sever", "x"], "no such option -sever"),
        (["-server"], "no argument found for option -server"),
        (["-timeout", "soon"], "-timeout is milliseconds, not soon"),
        (["-timeout", "0"], "-timeout is milliseconds, not 0"),
        (["-client-configuration", "/none"], "No such file"),
        (["-server", ":x"], "server ':x'"),
    ],
)
def test_wrong_start_options(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert problem in capsys.readouterr().err


def test_a_client_configuration(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text("# ours\nzookeeper.client.secure=false\nzookeeper.request.timeout=5\n")
    assert run("-client-configuration", str(path), "ls", "/")[0] == 0
    path.write_text("zookeeper.client.secure = TRUE\n")
    code, _, err = run("-client-configuration", str(path), "ls", "/")
    assert code == 1 and "TLS" in err


def test_quotas_are_not_set_below_a_chroot(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with SyncClient(address) as client:
        client.create("/chroot")
    for command in ("setquota -n 1 /a", "listquota /a", "delquota /a"):
        assert main(["-server", f"{address}/chroot", *command.split()]) == 1
        assert "connect without a chroot" in capsys.readouterr().err


def test_the_session_is_closed_at_the_end(run: Run, address: str) -> None:
    assert run("create", "-e", "/mine")[0] == 0
    with SyncClient(address) as client:
        assert client.exists("/mine") is None


def test_bytes_that_are_no_text(run: Run, address: str) -> None:
    run("create", "/bytes", os.fsdecode(b"\xff\x00"[:1]))
    with SyncClient(address) as client:
        assert client.get("/bytes").value == b"\xff"
    _, out, _ = run("get", "/bytes")
    assert out.endswith("\ufffd\n")


def test_a_great_tree_is_deleted_in_batches(run: Run, address: str) -> None:
    with SyncClient(address) as client:
        client.create("/great")
        for start in range(0, 2500, 500):
            with client.transaction() as made:
                for number in range(start, start + 500):
                    made.create(f"/great/{number}")
    code, out, _ = run("ls", "-R", "/great")
    assert code == 0 and len(re.findall("^/great/", out, re.MULTILINE)) == 2500
    assert run("deleteall", "/great", "-b", "100")[0] == 0
    with SyncClient(address) as client:
        assert client.exists("/great") is None


def test_what_cannot_be_deleted_is_told(run: Run) -> None:
    code, _, err = run("deleteall", "/zookeeper")
    assert (code, err) == (0, "Failed to delete some node(s) in the subtree!\n")


def test_configurations_in_a_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "dynamic"
    assert "No such file" in run("reconfig", "-file", str(path))[2]
    path.write_text("# nobody\ndataDir=/x\n")
    assert "it names no server" in run("reconfig", "-file", str(path))[2]
    path.write_text("server.1=a:1:2;3\n")
    assert run("reconfig", "-file", str(path))[0] == 1  # a standalone server has no ensemble


def test_addresses_for_clients() -> None:
    from tools.shell.service import _client_config

    config = "server.1=a:1:2:participant;b:3\nserver.2=c:1:2;4\nserver.3=d:1:2\nversion=1a\n"
    assert _client_config(config) == "1a b:3,0.0.0.0:4,"
    assert _client_config("") == " "


def test_nobody_reads_any_more(address: str) -> None:
    """`zkstore shell ls / | head` ends without a word."""
    with SyncClient(address) as client:
        client.create("/wide")
        for number in range(1000):
            client.create(f"/wide/{'x' * 100}{number}")
    command = [sys.executable, "-m", "zkstore", "shell", "-server", address, "ls", "-R", "/wide"]
    shell = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert shell.stdout is not None and shell.stderr is not None
    shell.stdout.read(1)
    shell.stdout.close()
    assert shell.wait(SECONDS_MAX) == 0
    assert shell.stderr.read() == b""
    shell.stderr.close()


# ---- on a terminal


class Terminal:
    """The shell on a terminal of its own."""

    def __init__(self, address: str) -> None:
        self._ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "zkstore", "shell", "-server", address]
        environment = {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null"}
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._seen = ""

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """What was printed up to the end of the match."""
        deadline = time.monotonic() + SECONDS_MAX
        while (found := re.search(pattern, self._seen)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self._seen!r}"
            if select.select([self._ours], [], [], left)[0]:
                self._seen += os.read(self._ours, 65536).decode()
        shown, self._seen = self._seen[: found.end()], self._seen[found.end() :]
        return shown

    def interrupted(self) -> int:
        """Its exit code. A signal between two waits for a key is seen at the next one only; one
        more while it ends would end it otherwise."""
        deadline = time.monotonic() + SECONDS_MAX
        while self._process.poll() is None:
            assert time.monotonic() < deadline
            if self._waits_for_a_key():
                self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                continue
        return self._process.returncode

    def _waits_for_a_key(self) -> bool:
        """Each by itself, not for a line: as readline does, and nobody else."""
        return not termios.tcgetattr(self._ours)[3] & termios.ICANON

    def end(self) -> int:
        return self._process.wait(SECONDS_MAX)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(address: str, signals_not_ignored: None) -> Iterator[Terminal]:
    opened = Terminal(address)
    yield opened
    opened.close()


def test_commands_and_paths_are_completed(terminal: Terminal, address: str) -> None:
    with SyncClient(address) as client:
        client.create("/completed/first", b"found", parents=True)
    terminal.wait_for(r"\(CONNECTED\) 0\] ")
    terminal.type("sta\t/comp\t/fi\t\n")
    assert "stat /completed/first" in terminal.wait_for("numChildren = 0")
    terminal.wait_for(r" 1\] ")
    terminal.type("get nothing\t\x15")  # the line is taken back
    terminal.type("get /completed/none\t\n")
    terminal.wait_for("Node does not exist: /completed/none")
    terminal.wait_for(r" 2\] ")
    terminal.type("\x04")
    assert terminal.end() == 1


def test_an_event_leaves_the_line_as_it_was(terminal: Terminal, address: str) -> None:
    terminal.wait_for(r" 0\] ")
    terminal.type("create /told x\n")
    terminal.wait_for(r" 1\] ")
    terminal.type("get -w /told\n")
    terminal.wait_for(r" 2\] ")
    terminal.type("ls /to")
    terminal.wait_for("ls /to")
    with SyncClient(address) as client:
        client.set("/told", b"y")
    terminal.wait_for(r"NodeDataChanged path:/told zxid: \d+\r\n\[zk: .* 2\] ls /to")
    terminal.type("ld\n")
    terminal.wait_for(r"\[\]")
    terminal.wait_for(r" 3\] ")
    terminal.type("quit\n")
    assert terminal.end() == 0


def test_an_interrupt_at_the_prompt_ends_the_shell(terminal: Terminal) -> None:
    terminal.wait_for(r" 0\] ")
    terminal.type("ls /nothing typed yet")
    terminal.wait_for("typed yet")
    assert terminal.interrupted() == 130
