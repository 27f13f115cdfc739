"""zkServer.sh and `zkstore status`: a server started, asked and stopped as people's scripts do."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from zkstore.errors import ConfigError
from zkstore.server import status, zkserver

Captured = pytest.CaptureFixture[str]


class Site:
    """A configuration, and what the command says about it."""

    def __init__(self, folder: Path, capsys: Captured) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.config = folder / "zoo.cfg"
        self._capsys = capsys
        self.config.write_text(
            f"dataDir={self.data}\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            "zkstore.embedded=true\nzkstore.diskReserveBytes=0\n"
            "zkstore.journalSegmentBytes=1048576\n"
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        code = zkserver.main([*arguments, str(self.config)])
        return code, self._capsys.readouterr().out

    @property
    def pid_path(self) -> Path:
        return self.data / "zookeeper_server.pid"


@pytest.fixture
def site(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("ZOOCFGDIR", "ZOOCFG", "ZOOPIDFILE", "ZOO_LOG_DIR", "SERVER_JVMFLAGS", "JVMFLAGS"):
        monkeypatch.delenv(name, raising=False)
    one = Site(tmp_path, capsys)
    yield one
    one.run("stop")


def test_start_status_restart_stop(site: Site) -> None:
    asked = f"Client port found: {site.port}. Client address: 127.0.0.1. Client SSL: false.\n"
    assert site.run("status") == (1, asked)
    assert site.run("start") == (0, "Starting zookeeper ... STARTED\n")
    pid = int(site.pid_path.read_text())
    assert site.run("status") == (0, asked + "Mode: standalone\n")
    running = f"Starting zookeeper ... already running as process {pid}.\n"
    assert site.run("start") == (1, running)
    restarted = "Stopping zookeeper ... STOPPED\nStarting zookeeper ... STARTED\n"
    assert site.run("restart") == (0, restarted)
    assert int(site.pid_path.read_text()) != pid
    assert site.run("stop") == (0, "Stopping zookeeper ... STOPPED\n")
    assert not site.pid_path.exists()
    code, text = site.run("stop")
    assert (code, "no zookeeper to stop" in text) == (1, True)


def test_a_server_that_cannot_start_says_why(site: Site, capsys: Captured) -> None:
    site.config.write_text(site.config.read_text() + "acceptDamage=1\njute.maxbuffer=100\n")
    site.config.write_text(site.config.read_text().replace("127.0.0.1", "203.0.113.1"))
    assert zkserver.main(["start", str(site.config)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "Starting zookeeper ... FAILED TO START\n"
    assert "cannot listen on 203.0.113.1" in captured.err
    assert not site.pid_path.exists()


def test_a_stale_pid_file_signals_nobody(site: Site) -> None:
    site.data.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        site.pid_path.write_text(str(other.pid))
        assert site.run("stop")[0] == 1
        assert other.poll() is None
        assert other.stdin is not None
        other.stdin.close()
        other.wait()


def test_print_cmd_and_properties(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_JVMFLAGS", "-Xmx1g -Dzookeeper.maxCnxns=7 -Dcom.sun.x=y")
    monkeypatch.setenv("JVMFLAGS", "-Djute.maxbuffer=4194304 -Dzkstore.workers=2")
    monkeypatch.setenv("ZOO_LOG_DIR", str(site.folder / "logs"))
    code, text = site.run("print-cmd")
    words = shlex.split(text)
    assert code == 0
    assert words[1:5] == ["-m", "zkstore", "serve", str(site.config)]
    assert words[5:-3] == [
        "-Dzookeeper.maxCnxns=7",
        "-Djute.maxbuffer=4194304",
        "-Dzkstore.workers=2",
    ]
    assert words[-2].startswith(str(site.folder / "logs"))


def test_scripts_beside_the_configuration(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    (site.folder / "zookeeper-env.sh").write_text(f"ZOO_LOG_DIR={site.folder}/elsewhere\n")
    java = site.folder / "java.env"
    java.write_text('echo noise\nexport JVMFLAGS="-Xmx1g -Djute.maxbuffer=9"\n')
    code, text = site.run("print-cmd")
    words = shlex.split(text)
    assert code == 0
    assert words[5] == "-Djute.maxbuffer=9"
    assert words[-2].startswith(f"{site.folder}/elsewhere/")

    java.write_text("exit 3\n")
    assert site.run("print-cmd") == (1, "")


def test_where_the_configuration_is_looked_for(
    site: Site, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used(*arguments: str) -> str:
        zkserver.main(list(arguments))
        return capsys.readouterr().err.split("\n")[0]

    expected = f"Using config: {site.config}"
    assert used("--config", str(site.folder), "print-cmd") == expected
    monkeypatch.setenv("ZOOCFGDIR", str(site.folder))
    assert used("print-cmd") == expected
    assert used("print-cmd", "other.cfg") == f"Using config: {site.folder / 'other.cfg'}"
    assert used("print-cmd", "./x.cfg") == "Using config: x.cfg"
    assert used("dance").startswith("Usage: zkServer.sh [--config <conf-dir>] {start|")
    assert used().startswith("Usage: ")


def test_status_over_the_client_port(site: Site, capsys: Captured) -> None:
    assert site.run("start")[0] == 0
    for given in (str(site.config), f"127.0.0.1:{site.port}", f":{site.port}"):
        assert status.main([given]) == 0
        assert "\nMode: standalone\n" in capsys.readouterr().out
    assert site.run("stop")[0] == 0
    assert status.main([f"127.0.0.1:{site.port}"]) == 1
    assert capsys.readouterr().err == f"zkstore: no server answers on 127.0.0.1:{site.port}\n"


def test_addresses() -> None:
    assert status.parse("h:1") == ("h", 1)
    assert status.parse("[::1]:1") == ("::1", 1)
    assert status.parse("[::1]") == ("::1", 2181)
    assert status.parse("h") == ("h", 2181)
    assert str(status.parse("[::1]:1")) == "[::1]:1"
    for text in ("h:x", "h:65536", "h:"):
        with pytest.raises(ConfigError, match="expected host:port"):
            status.parse(text)


def test_the_version(capsys: Captured) -> None:
    assert zkserver.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("zkstore ")
    assert os.environ.get("ZOOCFG") is None
