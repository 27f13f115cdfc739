"""Apache's server on a directory that stays, for what goes in and out of it.

Owns:   the process; it is killed at the end, as a crash would.
Not here: a server for one scenario, whose data goes with it (tests/conformance/servers.py).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError

from tests.conformance.servers import apache_classpath, debian_classpath
from tests.ports import free_port

START_SECONDS_MAX: Final = 60.0
PROPERTIES: Final = {
    "zookeeper.admin.enableServer": "false",
    "zookeeper.extendedTypesEnabled": "true",
    "zookeeper.preAllocSize": "64",
    "znode.container.checkIntervalMs": "3600000",
}


def classpaths() -> dict[str, str]:
    """The Apache servers that are installed: name → class path."""
    found = {}
    folder = os.environ.get("ZKSTORE_APACHE_39")
    if folder:
        found["apache39"] = apache_classpath(folder)
    debian = debian_classpath()
    if debian:
        found["debian"] = debian
    return found


@contextmanager
def apache(classpath: str, data_dir: Path, more: str = "", **properties: str) -> Iterator[str]:
    """A server on `data_dir`, with `more` lines in its configuration; its address."""
    port = free_port()
    config = data_dir.parent / f"{data_dir.name}.cfg"
    config.write_text(
        f"dataDir={data_dir}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=2000\n"
        "maxSessionTimeout=60000\n4lw.commands.whitelist=*\n" + more
    )
    jvm = [f"-D{name}={value}" for name, value in {**PROPERTIES, **properties}.items()]
    log_path = data_dir.parent / f"{data_dir.name}.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *jvm, "-cp",
             classpath, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        address = f"127.0.0.1:{port}"
        _await(process, address, log_path)
        yield address
    finally:
        process.kill()
        process.wait()


def _await(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        probe = KazooClient(address)
        try:
            probe.start(timeout=1)
        except KazooTimeoutError:
            text = log.read_text(errors="replace")[-3000:]
            assert process.poll() is None, f"the server ended:\n{text}"
            assert time.monotonic() < deadline, f"no server:\n{text}"
        else:
            return
        finally:
            probe.stop()
            probe.close()
