"""Apache's Java client, as zkCli: one script against zkstore and against Apache, outputs compared.

Debian's zookeeper package has a 3.8 client and server; with ZKSTORE_APACHE_39 the 3.9 ones are used
too. What a run decides (times, zxids, session ids) is masked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from kazoo.client import KazooClient

from tests.clients.support import Program, Proxy, run, tool, wait_until
from tests.conformance import servers
from tests.conformance.runner import APACHE_39_VARIABLE
from tests.conformance.servers import Server

# Programs are started, and compiled or installed, each with a time limit of its own.
pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

_MAIN: Final = "org.apache.zookeeper.ZooKeeperMain"

_SCRIPT: Final = """
ls /
create /cli one
create /cli two
create -e /cli/e data
create -s /cli/s- data
create -e -s /cli/es- data
create -c /cli/container data
create -t 100000000 /cli/ttl data
create /cli/e/child
create /cli/none/child
get /cli
get -s /cli
set /cli two
set -v 0 /cli three
set -s -v 1 /cli three
stat /cli
ls /cli
ls -s /cli
ls -R /cli
getAllChildrenNumber /cli
getEphemerals
getEphemerals /cli
getAcl /cli
setAcl -s /cli world:anyone:crwda,digest:user:hash:r
getAcl -s /cli
addauth digest user:password
create /cli/mine secret auth::crwda
getAcl /cli/mine
get /cli/mine
whoami
sync /cli
ls -w /cli
create /cli/watched x
get -w /cli/watched
set /cli/watched y
addWatch /cli/watched
set /cli/watched z
removewatches /cli/watched
delete -v 7 /cli/watched
delete /cli/watched
delete /cli/watched
delete /cli
config
version
history
deleteall /cli
ls /cli
close
ls /
quit
"""


def _classpaths() -> dict[str, str]:
    """The Apache releases on this machine: name to class path."""
    found = {}
    if folder := os.environ.get(APACHE_39_VARIABLE):
        found["3.9"] = servers.apache_classpath(folder)
    found["3.8"] = servers.DEBIAN_JAR
    return found


_CLASSPATHS: Final = _classpaths()


@pytest.fixture(scope="module", params=_CLASSPATHS)
def classpath(request: pytest.FixtureRequest) -> str:
    found = _CLASSPATHS[request.param]
    assert found.endswith("*") or Path(found).exists(), f"{found} is missing: install zookeeper"
    return found


@pytest.fixture(scope="module")
def apache(classpath: str) -> Iterator[Server]:
    with servers.apache(classpath) as running:
        yield running


def _cli(classpath: str, address: tuple[str, int], script: str) -> str:
    """What zkCli prints for a script on its standard input."""
    java = tool("java", "default-jre-headless")
    host = f"{address[0]}:{address[1]}"
    return run([java, "-cp", classpath, _MAIN, "-server", host], stdin=script)


def _masked(text: str) -> list[str]:
    """What was printed, then the events, without what differs from run to run.

    Events come in their own order, but anywhere between the other lines; prompts, and the client's
    log, are left out.
    """
    text = re.sub(r"\[zk: [^\]]*\] ?", "", text)
    text = re.sub(r"\b(c|m|p)Zxid = 0x[0-9a-f]+", r"\1Zxid = Z", text)
    text = re.sub(r"\b(c|m)time = .*", r"\1time = T", text)
    text = re.sub(r"ephemeralOwner = 0x[1-9a-f][0-9a-f]*", "ephemeralOwner = S", text)
    text = re.sub(r"zxid: \d+", "zxid: Z", text)
    lines = [_sorted_list(line.strip()) for line in text.splitlines()]
    lines = [line for line in lines if line and not _LEFT_OUT.search(line)]
    identities = sorted(line for line in lines if _IDENTITY.match(line))
    lines = [identities.pop(0) if _IDENTITY.match(line) else line for line in lines]
    events = [line for line in lines if line.startswith("WatchedEvent")]
    return [line for line in lines if not line.startswith("WatchedEvent")] + events


_IDENTITY: Final = re.compile(r"(ip|digest): ")
_LEFT_OUT: Final = re.compile(
    r"SLF4J|^\d{4}-\d\d-\d\d |^\d\d:\d\d:\d\d|log4j|^at org|^Connecting to|JLine|^WATCHER::"
    "|^WatchedEvent state:Closed"  # the client's own; whether it is in time for the end is chance
)


def _sorted_list(line: str) -> str:
    """A line that is a list of children has no order in Apache."""
    found = re.fullmatch(r"(.*)\[([^\[\]]*)\]", line)
    return f"{found[1]}[{', '.join(sorted(found[2].split(', ')))}]" if found else line


def test_a_script_prints_the_same(classpath: str, server: Server, apache: Server) -> None:
    theirs = _masked(_cli(classpath, apache.address, _SCRIPT))
    ours = _masked(_cli(classpath, server.address, _SCRIPT))
    assert len(theirs) > 60, theirs
    assert ours == theirs


def test_java_client_comes_back_after_a_cut(classpath: str, server: Server, proxy: Proxy) -> None:
    """A watch and an ephemeral survive a broken connection; what was missed fires the watch."""
    java = tool("java", "default-jre-headless")
    helper = KazooClient(hosts=f"127.0.0.1:{server.address[1]}", timeout=30.0)
    helper.start(timeout=60)
    program = Program([java, "-cp", classpath, _MAIN, "-server", proxy.hosts])
    try:
        program.say("create /java kept")
        program.say("create -e /java/e owned")
        wait_until(lambda: helper.exists("/java/e") is not None)
        program.say("stat -w /java")
        program.wait_for("numChildren = 1")
        proxy.cut()
        helper.set("/java", b"changed")
        program.wait_for("NodeDataChanged")
        program.say("stat /java/e")
        program.wait_for("numChildren = 0")
        program.say("deleteall /java")
        program.say("quit")
        program.end()
    finally:
        program.kill()
        helper.stop()
        helper.close()
