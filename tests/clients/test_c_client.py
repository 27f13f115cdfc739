"""Apache's C client (libzookeeper_mt), through a program that is compiled here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from tests.clients.support import Program, Proxy, run, tool, wait_until

# Programs are started, and compiled or installed, each with a time limit of its own.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

_SOURCE = Path(__file__).with_name("client.c")
_HEADER = Path("/usr/include/zookeeper/zookeeper.h")
_ROOT = "/c-client"


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = tool("cc", "gcc")
    assert _HEADER.exists(), f"{_HEADER} is missing: install libzookeeper-mt-dev"
    made = tmp_path_factory.mktemp("c") / "client"
    flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-DTHREADED"]
    run([compiler, *flags, str(_SOURCE), "-lzookeeper_mt", "-lpthread", "-o", str(made)])
    return str(made)


@pytest.fixture
def helper(proxy: Proxy) -> Iterator[KazooClient]:
    """Another client, which does what the C client shall see."""
    client = KazooClient(hosts=proxy.hosts, timeout=30.0)
    client.start(timeout=60)
    client.ensure_path(_ROOT)
    yield client
    client.retry(client.delete, _ROOT, recursive=True)
    client.stop()
    client.close()


def test_c_client(binary: str, proxy: Proxy, helper: KazooClient) -> None:
    program = Program([binary, proxy.hosts, _ROOT])
    try:
        program.wait_for("cut me")
        before = proxy.accepted
        proxy.cut()
        helper.retry(helper.set, f"{_ROOT}/watched", b"new")
        wait_until(lambda: proxy.accepted >= before + 2)
        program.say("go on")
        lines = program.end()
    finally:
        program.kill()
    assert lines == [
        "create 0",
        "create again -110",
        "create2 0 /s-0000000001 owned 1",
        "get 0 one version 0",
        "set 0 version 1 length 4",
        "set, bad version -103",
        "null data 0 0 length -1",
        "delete 0",
        "exists -101",
        "children 0: a s-0000000001 of 2",
        "acl 0 world:anyone:31",
        "multi 0: 0 0 0",
        "failed multi -103: 0 -103 -2",
        "event exists type 1 /w",
        "event exists type 2 /w",
        "cut me",
        "event get type 3 /watched",
        "get 0 new",
        "same session 1",
        "ephemeral 0",
        "close 0",
    ]
    wait_until(lambda: helper.retry(helper.exists, f"{_ROOT}/s-0000000001") is None)
