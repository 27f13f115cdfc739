"""The scripts that compare `zkstore shell` with Apache's zkCli, and what is left of their output.

What for:   each case runs against one zkstore server with an empty tree. What Apache's 3.9.3 shell
            printed is kept in shell_texts/, so that ours can be compared without Java;
            `python -m tests.tools.shell_cases` records it again, from ZKSTORE_APACHE_39.
Design:     standard output, standard error, events, prompts and exit code are compared, line by
            line. What a run decides (times, zxids, session ids) is masked; what differs on purpose
            is in DIFFERENCES, with its reason.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from tests.clients.support import PROGRAM_SECONDS_MAX, tool
from tests.conformance import servers
from tests.conformance.runner import APACHE_39_VARIABLE
from zkstore.client import SyncClient

FOLDER: Final = Path(__file__).parent / "shell_texts"
NOBODY: Final = "127.0.0.1:1"  # nothing listens there
Done = subprocess.CompletedProcess[str]
_MAIN: Final = "org.apache.zookeeper.ZooKeeperMain"


class Case(NamedTuple):
    """What is typed, after which start options, to which server."""

    lines: str = ""
    arguments: str = ""
    chroot: str = ""
    nobody: bool = False  # there is no server


CASES: Final = {
    "nodes": Case("""\
ls /
create /a one
create /a
create /null
get /null
get -b /null
create /empty ""
get /empty
get -x /empty
get /a
get -s /a
get -sw /a
get -b /a
get -x /a
get -s /nope
set /a two
set /a three -s
set -s /a
set -v 1 /a four
set -v2 -s /a four
set -v=3 /a five
set -v -1 /a six
set -b /a aGFsbG8=
get /a
set -v
set
stat /a
stat /nope
stat
ls
ls -? /
ls -q /
ls -s /a
create /a/b x
create /a/b/c x
create /a/d x
ls /a
ls -R /a
ls -R /nope
ls -sR /a
create -c /container x
create -c -e /x
create -c -s /x
create -t abc /x
create -t 0 /x
create -t 99999999999999 /x
create -t 100000 -e /x
create -t 100000 -c /x
create -t 100000 /ttl x
create -t 100000 -s /a/ttl- x
create -s /a/s- x
create -s -e /a/es- x
create -se /a/es- x
create -e /e
create /e/x
create -s /a/d/
create
create noslash
getEphemerals
getEphemerals /a
getEphemerals /none
getEphemerals none
getAllChildrenNumber /a
getAllChildrenNumber /none
getAllChildrenNumber
sync /a
sync /none
sync
sync none
delete /a
delete -v 7 /e
delete -v 0 /e
delete /none
delete
deleteall -b x /a
deleteall /none
deleteall
deleteall -b 2 /a
create /a
create /a/b
deleteall -b 0 /a
ls /
create '/two words' "a  b"
get '/two words'
delete "/two words"
create -- /hyphen -x
get /hyphen
create /bytes "äöü"
get -x /bytes
get -x /two
"""),
    "paths": Case("""\
get a
get /a/
get /a//b
get //
get /./a
get /a/..
get /a/./b
get /..
delete a/b
create /a/
create //
create a
set a x
stat a
ls a
ls -R a
getAcl a
setAcl a world:anyone:r
deleteall a
removewatches a
listquota a
setquota -n 1 a
delquota a
getAllChildrenNumber a
"""),
    "watches": Case("""\
create /w a
get -w /w
ls -w /w
stat -w /w
set /w b
create /w/c x
get -w /w
addWatch /w
addWatch -m persistent /w
addWatch -m foo /w
addWatch
addWatch /a /b
set /w c
create /w/d 1
removewatches /w -p
removewatches /w -r
removewatches /w -d
removewatches /w
removewatches
get -w /w
removewatches -d /w
ls -w /w
removewatches -c /w
stat -w /new
create /new
ls /w -w 1
stat /w 1
get /w 1
delete /new 1
ls -R -w /w
deleteall -b 1 /w
config -w
printwatches
printwatches off
create /quiet
get -w /quiet
set /quiet x
printwatches
printwatches on
"""),
    "acls": Case("""\
create /a x world:anyone:cdrwa
getAcl /a
getAcl -s /a
getAcl
setAcl /a world:anyone:r,bad,digest:u:p:q
getAcl /a
setAcl -s /a foo
setAcl /a
setAcl /none world:anyone:r
create /b x bogus:a:r
create /b x bogus
create /b x world:anyone:
addauth
addauth digest u:p
whoami
whoami x
setAcl /a auth::crwda
create /c x auth::cdrw
getAcl /c
setAcl /c world:anyone:r
delete /c
create /t x
create /t/t x
setAcl -R /t world:anyone:r
getAcl /t/t
set /t/t y
setAcl -v 0 /t world:anyone:cdrwa
setAcl -s -v 1 /t digest:a,b:c:r
setAcl /t digest:x%y:z:rwa
getAcl /t
addauth digest
"""),
    "quotas": Case("""\
create /q x
create /q/x xyz
setquota
setquota /q
setquota -n 5
setquota -n 5 -b 5 /q
setquota -n 0 /q
setquota -n x /q
setquota -b -1 /q
setquota -n 5 /none
setquota -n 5 /q
setquota -N 3 /q
setquota -b 2 /q
listquota /q
setquota -n 5 /q/x
setquota -B 3 /
setquota -n 1 /zookeeper/quota/x
delquota -b /q
delquota -n -b /q
listquota /q
delquota
delquota /q
delquota /q
listquota /q
setquota -n 3 /q/x
setquota -n 3 /q
ls -R /zookeeper
delquota /q/x
ls -R /zookeeper
listquota
"""),
    "service": Case("""\
version
version x
config
config -s
config -c
config -x
reconfig
reconfig -remove 5
reconfig -add server.5=localhost:1:2;3
reconfig -v zz -add x
reconfig -add a -members b
reconfig -members a -file b
reconfig -members a
history
redo 1
redo 999
redo -1
redo
close
ls /
close
history
redo 0
connect
ls /
printwatches
bogus
bogus and more
"""),
    "chroot": Case(
        "ls /\ncreate /b x\nget -s /b\nls /none\ngetEphemerals\nconfig\nget -w /b\nset /b y\n",
        chroot="/a",
    ),
    "one-command": Case(arguments="ls /"),
    "one-that-fails": Case(arguments="get /none"),
    "one-unknown": Case(arguments="none"),
    "one-wrong": Case(arguments="get"),
    "options": Case(arguments="-timeout 4000 -waitforconnection -r create /one x"),
    "nobody": Case("ls /\nset / x\nsync /\nquit\n", nobody=True),
    "nobody-in-time": Case(arguments="-timeout 1500 -waitforconnection ls /", nobody=True),
}


# Against an ensemble of one that may be reconfigured: Apache's own. The file is a configuration.
RECONFIG: Final = Case(
    """\
config
config -c
config -w
reconfig -add server.2=localhost:1:2;3
config
reconfig -s -remove 2
reconfig -v 7 -remove 2
reconfig -v zz -remove 2
reconfig -file dynamic
reconfig -remove 1
reconfig -add nonsense
config -s
""",
    nobody=True,
)


class Difference(NamedTuple):
    """A pattern that is replaced in both outputs before they are compared."""

    pattern: str
    replacement: str
    why: str


# Beyond these: Apache's shell ends with a Java exception where a number is none, data is no base64,
# or the path of an addWatch is wrong, and ours goes on (test_shell.py); at the end of its input
# Apache's leaves its session to its timeout, and ours closes it; options at the start that it does
# not know it ignores.
DIFFERENCES: Final = (
    Difference(r"JLine support is enabled", "", "the name of a library that we do not have"),
    Difference(r"org\.apache\.commons\.cli\.\w+: ", "", "Java's class names help nobody"),
    Difference(r"\t(exit|help) ", "", "commands that only we have; Apache has one from 3.10 on"),
    Difference(r"ZooKeeper CLI version: .*", "VERSION", "each says its own"),
    Difference(
        r"Exception in thread \"main\" java\.io\.IOException: [\w.$]+: ",
        "",
        "a stack trace is no error message",
    ),
)

# What is no difference of the shells, but of the run.
_MASKS: Final = (
    (r"(c|m|p)Zxid = 0x[0-9a-f]+", r"\1Zxid = Z"),
    (r"(c|m)time = \w{3} \w{3} \d\d \d\d:\d\d:\d\d \w+ \d{4}", r"\1time = T"),
    (r"ephemeralOwner = 0x[1-9a-f][0-9a-f]*", "ephemeralOwner = S"),
    (r"zxid: \d+", "zxid: Z"),
)
# Log lines, which go to standard output where the jars come with a logger, and stack traces.
_LOGGED: Final = re.compile(
    r"^(SLF4J|log4j|\d\d:\d\d:\d\d|\d{4}-\d\d-\d\d |\tat |\t\.\.\. |java\.|Caused by: )"
)


class Printed(NamedTuple):
    """What a shell has printed, without what a run decides."""

    out: list[str]
    events: list[str]  # their place among the other lines is by chance
    err: list[str]
    prompts: int
    code: int

    def text(self) -> str:
        """As it is kept."""
        lines = ["# standard output", *self.out, "# events", *self.events]
        lines += ["# standard error", *self.err, f"# {self.prompts} prompts", f"# exit {self.code}"]
        return "\n".join(lines) + "\n"


def printed(case: Case, done: Done, address: str) -> Printed:
    typed = {line.strip() for line in case.lines.splitlines()}
    out = [line for line in _lines(done.stdout, address) if line not in typed]
    states = r"CONNECTING|CONNECTED|CLOSED|AUTH_FAILED"
    # A single command may be through before Apache's connection is.
    told = "WatchedEvent" if case.lines else "\0"
    return Printed(
        [line for line in out if not line.startswith("WatchedEvent")],
        [line for line in out if line.startswith(told) and "state:Closed" not in line],
        _lines(done.stderr, address),
        len(re.findall(rf"\[zk: {re.escape(address)}\((?:{states})\) \d+\] ", done.stdout)),
        done.returncode,
    )


def _lines(text: str, address: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        if _LOGGED.match(line):
            continue
        # The line that was typed follows the prompt, cut where Apache's terminal ends.
        line = re.sub(r"^\[zk: [^\]]*\] .*", "", line).replace(address, "HOST")
        for pattern, mask in _MASKS:
            line = re.sub(pattern, mask, line)
        for difference in DIFFERENCES:
            line = re.sub(difference.pattern, difference.replacement, line)
        if line.strip() and line != "WATCHER::":
            lines.append(line.strip())
    return lines


def run_ours(case: Case, address: str, folder: Path | None = None) -> Done:
    return _run([sys.executable, "-m", "zkstore", "shell"], case, address, folder)


def run_theirs(case: Case, address: str, folder: Path | None = None) -> Done:
    """Raises: AssertionError without Java, or without ZKSTORE_APACHE_39."""
    java = tool("java", "default-jre-headless")
    jars = os.environ.get(APACHE_39_VARIABLE)
    assert jars, f"{APACHE_39_VARIABLE} names no folder of jars"
    return _run([java, "-cp", servers.apache_classpath(jars), _MAIN], case, address, folder)


def _run(command: list[str], case: Case, address: str, folder: Path | None) -> Done:
    if not case.nobody:
        _empty(address, case.chroot)
    return subprocess.run(
        [*command, "-server", address + case.chroot, *case.arguments.split()],
        input=case.lines,
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS_MAX,
        cwd=folder,
    )


def _empty(address: str, chroot: str) -> None:
    with SyncClient(address, auth=[("digest", b"super:secret")]) as client:
        _delete_below(client, "/")
        _delete_below(client, "/zookeeper/quota")
        if chroot:
            client.create(f"{chroot}/x", parents=True)


def _delete_below(client: SyncClient, path: str) -> None:
    for name in client.children(path):
        child = f"{path.rstrip('/')}/{name}"
        if child != "/zookeeper":
            _delete_below(client, child)
            client.delete(child)


def kept(name: str) -> str:
    """What Apache's shell printed."""
    return (FOLDER / f"{name}.txt").read_text()


def record() -> None:
    """Keep what Apache's shell prints."""
    with servers.zkstore("--workers", "2") as server:
        for name, case in CASES.items():
            address = NOBODY if case.nobody else f"127.0.0.1:{server.address[1]}"
            done = run_theirs(case, address)
            (FOLDER / f"{name}.txt").write_text(printed(case, done, address + case.chroot).text())


if __name__ == "__main__":
    record()
