"""`zkServer.sh`: starts, stops and asks a server, with the words that people's scripts use.

Owns:   the pid file (dataDir/zookeeper_server.pid, or $ZOOPIDFILE), and the file that the server's
  output goes to.
Invariants:
  1. Only a process that is a zkstore server is ever signalled: a pid file may be older than the
     machine's last start.
Design: Python under the script's name: what a configuration means is not guessed a second time in
  shell. `start` waits until the server says that it is ready, and `stop` until it is gone; Apache's
  sleep a second each.
Not here: serving (serve.py), asking (status.py).
Source: zkServer.sh and zkEnv.sh of ZooKeeper 3.9; reference section T.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from zkstore.errors import ConfigError
from zkstore.server import config, status
from zkstore.server.config_keys import is_property
from zkstore.version import VERSION

_COMMANDS: Final = (
    "start", "start-foreground", "stop", "version", "restart", "status", "print-cmd",
)  # fmt: skip
_USAGE: Final = f"Usage: zkServer.sh [--config <conf-dir>] {{{'|'.join(_COMMANDS)}}} [zoo.cfg]"
_FOLDERS: Final = ("conf", ".", "/etc/zookeeper/conf", "/etc/zookeeper")
_ENVIRONMENT_SCRIPTS: Final = ("zookeeper-env.sh", "java.env")
_START_SECONDS_MAX: Final = 30.0
_STOP_SECONDS_MAX: Final = 60.0
_POLL_SECONDS: Final = 0.05
_READY: Final = " ready on "


class _Server(NamedTuple):
    """One server as its configuration describes it."""

    config_path: Path
    pid_path: Path
    log_dir: Path

    @property
    def command(self) -> list[str]:
        """What runs it in the foreground."""
        program = [sys.executable, "-m", "zkstore", "serve", str(self.config_path)]
        return program + _properties()

    @property
    def output_path(self) -> Path:
        name = f"zookeeper-{getpass.getuser()}-server-{socket.gethostname()}.out"
        return self.log_dir / name


def main(argv: list[str] | None = None) -> int:
    """Does what the first argument says; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    folder = os.environ.get("ZOOCFGDIR")
    if arguments[:1] == ["--config"] and len(arguments) > 1:
        folder = arguments[1]
        arguments = arguments[2:]
    if not 1 <= len(arguments) <= 2 or arguments[0] not in _COMMANDS:
        _tell(_USAGE)
        return 1
    word = arguments[0]
    if word == "version":
        sys.stdout.write(f"zkstore {VERSION}\n")
        return 0
    path = _config_path(folder, arguments[1] if len(arguments) > 1 else None)
    _tell(f"Using config: {path}")
    try:
        _take_environment(Path(folder) if folder else path.parent)
        return _run(word, path)
    except (ConfigError, OSError) as error:
        _tell(str(error))
        return 1


def _run(word: str, path: Path) -> int:
    if word == "status":
        return _status(status.address_of(path))
    server = _server(path)
    if word == "start-foreground":
        os.execv(server.command[0], server.command)
    if word == "print-cmd":
        _say(f"{shlex.join(server.command)} > {server.output_path} 2>&1\n")
        return 0
    if word in ("stop", "restart"):
        stopped = _stop(server)
        if word == "stop":
            return stopped
    return _start(server)


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _config_path(folder: str | None, given: str | None) -> Path:
    """A name with a folder stands for itself; others are looked for where configurations are."""
    name = given or os.environ.get("ZOOCFG") or "zoo.cfg"
    if os.path.dirname(name):
        return Path(name)
    folders = [folder] if folder else _FOLDERS
    paths = [Path(one) / name for one in folders]
    return next((path for path in paths if path.is_file()), paths[0])


def _take_environment(folder: Path) -> None:
    """What the shell scripts beside the configuration set counts: JVMFLAGS, ZOO_LOG_DIR, and so on.

    Raises: ConfigError for a script that ends the shell.
    """
    scripts = [folder.absolute() / name for name in _ENVIRONMENT_SCRIPTS]
    scripts = [script for script in scripts if script.is_file()]
    if not scripts:
        return
    shell = shutil.which("bash") or "sh"
    program = 'set -a; for script; do . "$script" >&2; done; env -0'
    ended = subprocess.run([shell, "-c", program, shell, *scripts], stdout=subprocess.PIPE)
    if ended.returncode != 0:
        names = " or ".join(str(script) for script in scripts)
        raise ConfigError(f"{names} ended the shell with code {ended.returncode}")
    variables = os.fsdecode(ended.stdout).split("\0")[:-1]
    os.environ.update(variable.partition("=")[::2] for variable in variables)


def _server(path: Path) -> _Server:
    """Raises: ConfigError."""
    settings = config.configure(config.read_file(path)).settings
    data_dir = Path(settings.data_dir)
    pid_path = os.environ.get("ZOOPIDFILE")
    log_dir = os.environ.get("ZOO_LOG_DIR")
    return _Server(
        path,
        Path(pid_path) if pid_path else data_dir / "zookeeper_server.pid",
        Path(log_dir) if log_dir else data_dir / "logs",
    )


def _properties() -> list[str]:
    """The system properties among the flags for the Java virtual machine; the rest is Java's."""
    flags = shlex.split(f"{os.environ.get('SERVER_JVMFLAGS', '')} {os.environ.get('JVMFLAGS', '')}")
    properties = [
        flag
        for flag in flags
        if flag.startswith("-D") and is_property(flag.removeprefix("-D").partition("=")[0])
    ]
    if os.environ.get("ZOO_DATADIR_AUTOCREATE_DISABLE"):
        properties.append("-Dzookeeper.datadir.autocreate=false")
    return properties


def _running(server: _Server) -> int:
    """The pid of the server, 0 if it does not run."""
    try:
        pid = int(server.pid_path.read_text())
    except (FileNotFoundError, ValueError):
        return 0
    return pid if _is_ours(pid) else 0


def _is_ours(pid: int) -> bool:
    """Whether the process lives and is a zkstore server."""
    shown = subprocess.run(
        ["ps", "-o", "stat=,args=", "-p", str(pid)], capture_output=True, text=True
    )
    state, _, arguments = shown.stdout.strip().partition(" ")
    return bool(state) and state[0] != "Z" and "zkstore" in arguments and "serve" in arguments


def _start(server: _Server) -> int:
    _say("Starting zookeeper ... ")
    if pid := _running(server):
        _say(f"already running as process {pid}.\n")
        return 1
    server.log_dir.mkdir(parents=True, exist_ok=True)
    server.pid_path.parent.mkdir(parents=True, exist_ok=True)
    with open(server.output_path, "wb") as output:
        process = subprocess.Popen(
            server.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server.pid_path.write_text(str(process.pid))
    if _is_up(process, server.output_path):
        _say("STARTED\n")
        return 0
    server.pid_path.unlink(missing_ok=True)
    _say("FAILED TO START\n")
    _tell(server.output_path.read_text(errors="replace").rstrip())
    return 1


def _is_up(process: subprocess.Popen[bytes], output: Path) -> bool:
    """Waits until the server is ready or gone; one that takes long is left to it."""
    deadline = time.monotonic() + _START_SECONDS_MAX
    while time.monotonic() < deadline:
        if _READY in output.read_text(errors="replace"):
            return True
        try:
            process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return False
    return True


def _stop(server: _Server) -> int:
    _say("Stopping zookeeper ... ")
    pid = _running(server)
    if not pid:
        _say(f"no zookeeper to stop (could not find file {server.pid_path}, or it is stale)\n")
        return 1
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS_MAX
    while _is_ours(pid):
        if time.monotonic() > deadline:
            _say(f"process {pid} STILL RUNS\n")
            return 1
        time.sleep(_POLL_SECONDS)
    server.pid_path.unlink(missing_ok=True)
    _say("STOPPED\n")
    return 0


def _status(address: status.Address) -> int:
    _say(f"Client port found: {address.port}. Client address: {address.host}. Client SSL: false.\n")
    answer = status.ask(address) or ""
    mode = [line for line in answer.split("\n") if line.startswith("Mode: ")]
    if not mode:
        _tell("Error contacting service. It is probably not running.")
        return 1
    _say(f"{mode[0]}\n")
    return 0
