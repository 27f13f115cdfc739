"""Servers to run scenarios against: Apache ZooKeeper from jars, and zkstore as a subprocess.

What for:   one way to start either with the same zoo.cfg, wait until it serves, and stop it again.
Owns:       the child process, its data directory and its port.
Invariants:
  1. Stopped: leaving the context ends the process and removes its data.
  2. Alike: both get the same settings; what is a JVM property there is given as -D here.
Source:     zookeeperAdmin; reference parity, section M.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.conformance.wire import ClosedError, Connection, DeadlineError, connect_request, i32
from tests.ports import free_port

START_SECONDS_MAX: Final = 60.0
DEBIAN_JAR: Final = "/usr/share/java/zookeeper.jar"
"""Its manifest names the jars that it needs."""

SUPER_DIGEST: Final = "super:lK75jTNcA+U9vtVEw5vB51mj/w4="
"""user:base64(sha1("super:secret"))."""

SETTINGS: Final = {
    "tickTime": "500",
    "minSessionTimeout": "1000",
    "maxSessionTimeout": "60000",
    "maxClientCnxns": "0",
    "extendedTypesEnabled": "true",
    "4lw.commands.whitelist": "*",
    "DigestAuthenticationProvider.superDigest": SUPER_DIGEST,
}
PROPERTIES: Final = {"znode.container.checkIntervalMs": "500"}


@dataclass(frozen=True, slots=True)
class Server:
    address: tuple[str, int]
    process: subprocess.Popen[str]
    data_dir: Path
    log: Path


def apache_classpath(folder: str) -> str:
    """The class path for a folder of jars. Raises: AssertionError if ZooKeeper is not in it."""
    assert glob.glob(f"{folder}/zookeeper-3*.jar"), f"no zookeeper-3*.jar in {folder}"
    return f"{folder}/*"


def debian_classpath() -> str | None:
    """The class path of Debian's zookeeper package; None when it is not installed."""
    return DEBIAN_JAR if os.path.exists(DEBIAN_JAR) else None


@contextmanager
def apache(
    classpath: str,
    settings: Mapping[str, str] = MappingProxyType({}),
    properties: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """A standalone Apache ZooKeeper."""
    jvm = {"zookeeper.admin.enableServer": "false", **PROPERTIES, **properties}
    options = [f"-D{key}={value}" for key, value in jvm.items()]
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    java = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    command = [*java, *options, "-cp", classpath, main]
    with _started(command, [], {**SETTINGS, **settings}) as server:
        yield server


@contextmanager
def zkstore(
    *options: str,
    settings: Mapping[str, str] = MappingProxyType({}),
    properties: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """A zkstore server, as `python -m zkstore serve CFG` and the given options."""
    given = [f"-D{key}={value}" for key, value in {**PROPERTIES, **properties}.items()]
    command = [sys.executable, "-m", "zkstore", "serve"]
    with _started(command, [*options, *given], {**SETTINGS, **settings}) as server:
        yield server


@contextmanager
def _started(
    command: Sequence[str], options: Sequence[str], settings: Mapping[str, str]
) -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="conformance-"))
    port = free_port()
    config = home / "zoo.cfg"
    data_dir = home / "data"
    data_dir.mkdir()
    lines = [f"dataDir={data_dir}", f"clientPort={port}", "clientPortAddress=127.0.0.1"]
    lines += [f"{key}={value}" for key, value in settings.items()]
    config.write_text("\n".join(lines) + "\n")
    with open(home / "server.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, str(config), *options], stdout=log, stderr=subprocess.STDOUT, text=True
        )
    try:
        _wait_until_serving(process, ("127.0.0.1", port), home / "server.log")
        yield Server(("127.0.0.1", port), process, data_dir, home / "server.log")
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait_until_serving(
    process: subprocess.Popen[str], address: tuple[str, int], log: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not _serves(address):
        ended = process.poll()
        text = log.read_text(errors="replace")[-3000:]
        assert ended is None, f"the server ended with {ended}:\n{text}"
        assert time.monotonic() < deadline, f"no server within {START_SECONDS_MAX} s:\n{text}"
        time.sleep(0.05)


def _serves(address: tuple[str, int]) -> bool:
    """Whether a session can be opened and closed."""
    try:
        connection = Connection(address)
    except OSError:
        return False
    try:
        connection.handshake(connect_request())
        connection.send(i32(1) + i32(-11))
        connection.recv()
    except (ClosedError, DeadlineError, OSError):
        return False
    finally:
        connection.close()
    return True
