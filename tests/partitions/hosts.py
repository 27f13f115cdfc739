"""Hosts of one network, each a network namespace of its own, and what can go wrong between them.

Owns:   the namespaces it made, and every process started in them.
Invariants:
  1. Gone: leaving the context ends those processes and removes the namespaces.
  2. A packet that is cut off is dropped where it would arrive, silently: the sender sees a network
     that does not answer, never an error.
Design: one more namespace is the switch (a bridge); packets are dropped by nftables in the
  receiving host, so a cut works in one direction or both, and touches nothing else.
Not here: what runs on the hosts (replicas.py, writers.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

_NETWORK: Final = "10.213.7"
_TABLE: Final = "inet zkstore"
_COMMAND_SECONDS: Final = 60.0
# What ethtool -K eth0 tx off tso off gso off does: frames are whole when the wire reads them.
_NO_OFFLOAD: Final = """
import array, fcntl, socket, struct
for command in (0x17, 0x1F, 0x24):  # ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO
    value = array.array("B", struct.pack("II", command, 0))
    request = struct.pack("16sP16x", b"eth0", value.buffer_info()[0])
    fcntl.ioctl(socket.socket(), 0x8946, request)  # SIOCETHTOOL
"""


def usable() -> bool:
    """Whether this machine lets us make network namespaces."""
    return os.geteuid() == 0 and all(shutil.which(tool) for tool in ("ip", "nft"))


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


class Hosts:
    """Hosts 1 to `count` on one switch. Use as a context manager."""

    def __init__(
        self, count: int, *, far: frozenset[int] = frozenset(), delay_ms: float = 0
    ) -> None:
        """far: the hosts of a second site; what passes between the sites takes `delay_ms`."""
        self.numbers = range(1, count + 1)
        self._far = far
        self._delay_ms = delay_ms
        self._wire: subprocess.Popen[str] | None = None
        self._prefix = f"zks{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self._made: list[str] = []

    def __enter__(self) -> Hosts:
        try:
            self._make()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._wire is not None:
            self._wire.kill()
            self._wire.wait()
            self._wire = None
        for name in self._made:
            pids = subprocess.run(
                ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
            )
            for pid in pids.stdout.split():
                subprocess.run(["kill", "-9", pid], capture_output=True, check=False)
            _run("ip", "netns", "del", name)
        self._made.clear()

    def _make(self) -> None:
        self._namespace(self._switch)
        for bridge in ("br0", "br1") if self._far else ("br0",):
            self._in(self._switch, "ip", "link", "add", bridge, "type", "bridge")
            self._in(self._switch, "ip", "link", "set", bridge, "up")
        for number in self.numbers:
            name = self.name(number)
            self._namespace(name)
            _run(
                "ip", "link", "add", "eth0", "netns", name,
                "type", "veth", "peer", "name", f"port{number}", "netns", self._switch,
            )  # fmt: skip
            bridge = "br1" if number in self._far else "br0"
            self._in(self._switch, "ip", "link", "set", f"port{number}", "master", bridge, "up")
            self._in(name, "ip", "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            self._in(name, "ip", "link", "set", "eth0", "up")
            self._in(name, "nft", f"add table {_TABLE}")
            chain = "{ type filter hook input priority 0; }"
            self._in(name, "nft", f"add chain {_TABLE} arriving {chain}")
            if self._far:
                self._in(name, sys.executable, "-c", _NO_OFFLOAD)
        if self._far:
            self._lay_wire()

    def _lay_wire(self) -> None:
        """Join the two switches by a wire that takes its time."""
        for number in range(2):
            ends = ("ip", "link", "add", f"jack{number}", "type", "veth", "peer", "name")
            self._in(self._switch, *ends, f"end{number}")
            jack = ("ip", "link", "set", f"jack{number}", "master", f"br{number}", "up")
            self._in(self._switch, *jack)
            self._in(self._switch, "ip", "link", "set", f"end{number}", "promisc", "on", "up")
        command = [sys.executable, "-m", "tests.partitions.wire", "end0", "end1"]
        self._wire = subprocess.Popen(
            ["ip", "netns", "exec", self._switch, *command, str(self._delay_ms)],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert self._wire.stdout is not None
        assert self._wire.stdout.readline() == "carries\n"

    def _namespace(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        self._made.append(name)
        self._in(name, "ip", "link", "set", "lo", "up")

    def _in(self, name: str, *command: str) -> None:
        _run("ip", "netns", "exec", name, *command)

    # ---- what a test does

    def name(self, number: int) -> str:
        return f"{self._prefix}-{number}"

    def address(self, number: int) -> str:
        return f"{_NETWORK}.{number}"

    def command(self, number: int, command: Sequence[str]) -> list[str]:
        """What runs this command on the host."""
        return ["ip", "netns", "exec", self.name(number), *command]

    def cut(self, source: int, target: int) -> None:
        """From now on nothing that `source` sends arrives at `target`; the other way is open."""
        rule = f"ip saddr {self.address(source)} drop"
        self._in(self.name(target), "nft", f"add rule {_TABLE} arriving {rule}")

    def part(self, one: Iterable[int], other: Iterable[int]) -> None:
        """Nothing passes between the two groups, in either direction."""
        others = list(other)
        for source in one:
            for target in others:
                self.cut(source, target)
                self.cut(target, source)

    def heal(self) -> None:
        """All cuts end."""
        for number in self.numbers:
            self._in(self.name(number), "nft", f"flush chain {_TABLE} arriving")
