"""Four or six hosts; the last one is the clients'."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.partitions.hosts import Hosts, usable
from tests.partitions.replicas import REPOSITORY, Ensemble

_FINISH_SECONDS: Final = 110.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where no namespaces can be made nothing of this folder can run, and that is said."""
    if not usable():
        reason = "network namespaces need root, ip (iproute2) and nft (nftables)"
        for item in items:
            if "tests/partitions/" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=reason))


class Storm:
    """The writers, while they run."""

    def __init__(self, ensemble: Ensemble, client_host: int, seed: int) -> None:
        command = [sys.executable, "-m", "tests.partitions.writers", ensemble.servers()]
        command += ["--seed", str(seed), "--writers", "4"]
        self._process = subprocess.Popen(
            ensemble.hosts.command(client_host, command), cwd=REPOSITORY, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.report: dict[str, Any] = {}

    def last(self, seconds: float) -> None:
        """Let the clients go on for so long: the load itself is what is wanted here."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"the clients ended: {self._process.stdout}")

    def end(self) -> None:
        """Stop the clients, have all replicas compared."""
        out, _ = self._process.communicate("x", timeout=_FINISH_SECONDS)
        assert out, "the clients ended without a report"
        self.report = json.loads(out)
        assert self.report["violations"] == [], self.report
        assert self.report["acknowledged"] > 100, self.report

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextmanager
def storming(ensemble: Ensemble, client_host: int, seed: int = 0) -> Iterator[Storm]:
    """Clients write while the body runs, and all is judged behind it."""
    ensemble.serve()
    started = time.monotonic()
    storm = Storm(ensemble, client_host, seed)
    try:
        yield storm
        storm.end()
    finally:
        storm.kill()
    print(f"{time.monotonic() - started:.1f} s: {storm.report}")


@pytest.fixture
def four_hosts() -> Iterator[Hosts]:
    with Hosts(4) as hosts:
        yield hosts


@pytest.fixture
def six_hosts() -> Iterator[Hosts]:
    with Hosts(6) as hosts:
        yield hosts
