"""node-zookeeper-client, installed from npm into pytest's cache folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from kazoo.client import KazooClient

from tests.clients.support import Program, Proxy, run, tool, wait_until

# Programs are started, and compiled or installed, each with a time limit of its own.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

_PROGRAM: Final = Path(__file__).with_name("client.js")
_PACKAGE: Final = "node-zookeeper-client@1.1.3"
_ROOT: Final = "/node-client"


@pytest.fixture(scope="module")
def modules(request: pytest.FixtureRequest) -> str:
    """The folder of the installed package; installed once, then kept."""
    cache = request.config.cache
    assert cache is not None, "pytest's cache plugin is switched off"
    folder = cache.mkdir("node-zookeeper-client")
    installed = folder / "node_modules" / "node-zookeeper-client"
    if not installed.exists():
        npm = tool("npm", "npm")
        run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), _PACKAGE])
    return str(folder / "node_modules")


@pytest.fixture
def helper(proxy: Proxy) -> Iterator[KazooClient]:
    """Another client, which does what the Node client shall see."""
    client = KazooClient(hosts=proxy.hosts, timeout=30.0)
    client.start(timeout=60)
    client.ensure_path(_ROOT)
    yield client
    client.retry(client.delete, _ROOT, recursive=True)
    client.stop()
    client.close()


def test_node_client(modules: str, proxy: Proxy, helper: KazooClient) -> None:
    node = tool("node", "nodejs")
    program = Program([node, str(_PROGRAM), proxy.hosts, _ROOT], {"NODE_PATH": modules})
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
        "create /a",
        "create again NODE_EXISTS",
        "create /s-0000000001",
        "get  one version 0",
        "set  version 1 length 4",
        "set BAD_VERSION",
        "children  a,s-0000000001",
        "mkdirp /x/y/z",
        "remove NOT_EMPTY",
        "acl  world anyone 31",
        "transaction ",
        "transaction BAD_VERSION",
        "exists false",
        "event NODE_CREATED /w",
        "cut me",
        "event NODE_DATA_CHANGED /watched",
        "get  new",
        "same session true",
        "ephemeral true",
    ]
    wait_until(lambda: helper.retry(helper.exists, f"{_ROOT}/s-0000000001") is None)
