"""What the tree must look like: who may import whom, how long things may be, which words are out.

The tables are the rules; ARCHITECTURE.md tells the reasons. An exception stands in a table with its
own reason, so that each new one is seen in review.
"""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2]
FILE_LINES_MAX: Final = 600
FUNCTION_LINES_MAX: Final = 60
LINE_CHARACTERS_MAX: Final = 100

# Everyone may import these; they import nothing but each other.
BOTTOM: Final = {"constants", "errors", "zxid", "version"}

# Bytes, ticks, fresh ids and views come in as arguments, so that the same inputs always give the
# same outputs and the simulator can run the production code.
PURE: Final = {"apache", "jute", "proto", "records", "session", "tree", "zab"}
IMPURE: Final = {"asyncio", "lmdb", "os", "random", "socket", "threading", "time", "uvloop"}

# What each part of zkstore/ may import besides itself and BOTTOM.
_WIRE: Final = {"jute", "proto"}
_PROCESS: Final = {"lifeline", "messaging", "observability", "settings"}
_DURABLE: Final = {"records", "storage", "tree"}
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "jute": set(),
    "proto": {"jute"},
    # A client stands by itself: a program that only asks loads no server.
    "client": _WIRE,
    "records": {"jute"},
    "tree": {*_WIRE, "records"},
    "session": {"jute", "records"},
    # A txn is opaque bytes to the quorum: zab never sees a znode, tree never a quorum.
    "zab": _WIRE,
    "quorum": {*_WIRE, *_PROCESS, "zab"},
    "apache": {*_WIRE, "records", "tree"},
    "storage": {"apache", "jute", "lifeline", "observability", "records", "settings", "tree"},
    "settings": set(),
    "lifeline": set(),
    "observability": set(),
    "messaging": {"records"},
    "admin_socket": set(),
    # These two never import each other; records.ipc is what they share.
    "frontend": {*_WIRE, *_PROCESS, *_DURABLE, "session"},
    "commit": {*_WIRE, *_PROCESS, *_DURABLE, "admin_socket", "quorum", "session", "zab"},
    "server": {*_PROCESS, "admin_socket", "commit", "frontend", "storage", "tree", "zab"},
    "pytest_plugin": {"__init__", "server", "settings"},
    "__init__": {"server", "settings"},
    "__main__": {"server"},
}

# (importing module, imported module): why it may.
EXCEPTIONS: Final = {
    ("commit.live", "server.config_keys"): "names and values of settings are those of zoo.cfg",
    ("commit.live", "server.values"): "a setting's value is shown in the words of zoo.cfg",
    ("proto.fourletter", "time"): "writes a time that it is given as a date",
    ("proto.requests", "tree.acl"): "an ACL is decoded into what the tree keeps",
    ("records.txn", "proto.opcodes"): "the type of a txn is the opcode of its request",
    ("records.txn", "tree.acl"): "a txn carries ACLs",
    ("storage.history", "zab.ready"): "what it reads are proposals",
    ("storage.hotcopy", "proto.opcodes"): "it asks a txn for its type",
    ("storage.offline", "zab.ready"): "the epochs of a journal",
    ("storage.record", "zab.ready"): "a record holds what a Ready wants durable",
    ("storage.rescue", "proto.opcodes"): "it asks an effect for its type",
    ("storage.rollback", "proto.opcodes"): "it asks an effect for its type",
    ("storage.snapshot_out", "proto.quorum"): "it begins with a packet",
    ("storage.writer", "proto.opcodes"): "it asks a txn for its type",
    ("storage.writer", "zab.ready"): "a Ready is what it performs",
    ("session.throttle", "settings"): "the throttle's numbers, as plain values",
    ("tree.auth", "settings"): "the digests and providers allowed, as plain values",
}

# zkstore/ stands without them; tools/ is installed inside it and imports itself relatively.
OUTSIDE: Final = {"tools", "bench", "tests", "relative"}

# Modules that only these may import.
RESERVED: Final = {
    "lmdb": ("storage.",),
    "storage.writer": ("commit.",),
    "uvloop": ("commit.", "frontend.", "server."),
}

# Modules that nobody imports because they are started: `python -m`.
STARTED: Final = {
    "__main__", "commit.process", "frontend.process", "storage.snapshot_in", "storage.snapshot_out",
}  # fmt: skip

# In comments and code of zkstore/ and tools/; the reason is what to do instead.
BANNED: Final = {
    r"\bTO" r"DO\b": "do it, or file an issue",
    r"\bFIX" r"ME\b": "fix it, or file an issue",
    r"\bXX" r"X\b": "say what is wrong, or mend it",
    r"\bfor " r"now\b": "there is no later: build it, or leave it out",
    r"\bNotImplemented" r"Error\b": "no stubs",
    r"\bprint" r"\(": "log it; only the command prints",
}
MAY_PRINT: Final = {"zkstore/server/cli.py"}


class Module(NamedTuple):
    path: Path
    name: str  # without "zkstore.": "storage.env"; a package is its __init__
    tree: ast.Module

    @property
    def part(self) -> str:
        return self.name.partition(".")[0]


def module_of(path: Path) -> Module:
    relative = path.relative_to(ROOT / "zkstore").with_suffix("")
    parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
    return Module(path, ".".join(parts) or "__init__", ast.parse(path.read_text()))


MODULES: Final = [module_of(path) for path in sorted((ROOT / "zkstore").rglob("*.py"))]
NAMES: Final = {module.name for module in MODULES}
SOURCES: Final = [
    path
    for folder in ("zkstore", "tools", "bench", "tests")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, line) of each import; ours without `zkstore.`, resolved to the module's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = "relative" if node.level else node.module
            found = [f"{parent}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            yield resolve(name), node.lineno


def resolve(name: str) -> str:
    """The module that an imported name comes from; of foreign ones the top-level package."""
    if name == "zkstore":
        return "__init__"
    if not name.startswith("zkstore."):
        return name.partition(".")[0]
    own = name.removeprefix("zkstore.")
    parent = own.rpartition(".")[0]
    return own if own in NAMES else parent or "__init__"


def allowed(module: Module, imported: str) -> bool:
    if (module.name, imported) in EXCEPTIONS:
        return True
    part = imported.partition(".")[0]
    if imported not in NAMES:
        return part not in OUTSIDE and not (module.part in PURE and part in IMPURE)
    return part in {module.part, *BOTTOM, *MAY_IMPORT.get(module.part, set())}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_imports_keep_to_the_table(module: Module) -> None:
    wrong = [
        f"{module.path.name}:{line} imports {imported}"
        for imported, line in imports(module.tree)
        if not allowed(module, imported)
        or (imported in RESERVED and not module.name.startswith(RESERVED[imported]))
    ]
    assert not wrong


def test_the_table_has_a_row_for_each_part_and_no_needless_exception() -> None:
    parts = {module.part for module in MODULES}
    assert parts - BOTTOM == set(MAY_IMPORT) & parts
    made = {(module.name, imported) for module in MODULES for imported, _ in imports(module.tree)}
    assert set(EXCEPTIONS) <= made


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions do not count: they are made when the module is whole."""
    edges = {}
    for module in MODULES:
        top = ast.Module([node for node in module.tree.body if not is_type_checking(node)], [])
        for function in ast.walk(top):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                function.body = []
        edges[module.name] = {name for name, _ in imports(top)} & NAMES
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for imported in edges[name]:
                visit(imported, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def test_every_module_is_used() -> None:
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    entry_points = " ".join(metadata["options.entry_points"].values())
    used = STARTED | {resolve(name) for name in re.findall(r"= ([\w.]+)", entry_points)}
    for module in MODULES:
        used |= {name for name, _ in imports(module.tree)} - {module.name}
    for path in (ROOT / "tools").rglob("*.py"):
        used |= {name for name, _ in imports(ast.parse(path.read_text()))}
    packages = {module.name for module in MODULES if module.path.name == "__init__.py"}
    assert NAMES - packages - used == set()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_every_module_says_what_it_is_for(module: Module) -> None:
    if module.path.name == "__init__.py" and not module.tree.body:
        return
    assert ast.get_docstring(module.tree)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= FILE_LINES_MAX
    wide = [number for number, line in enumerate(lines, 1) if len(line) > LINE_CHARACTERS_MAX]
    assert not wide, f"lines {wide} are too long"
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


@pytest.mark.parametrize("word", BANNED)
def test_banned_words(word: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {BANNED[word]}"
        for path in SOURCES
        if path.relative_to(ROOT).parts[0] in ("zkstore", "tools")
        and not ("print" in word and str(path.relative_to(ROOT)) in MAY_PRINT)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(word, line)
    ]
    assert not found


def test_the_wire_scripts_do_not_share_our_codec() -> None:
    """A mistake in zkstore's codec could hide behind the same mistake in the test's."""
    for path in (ROOT / "tests" / "conformance").rglob("*.py"):
        foreign = {name for name, _ in imports(ast.parse(path.read_text()))}
        assert not foreign & NAMES, path.name


def test_the_supervisor_does_without_storage_and_event_loop() -> None:
    """It has to outlive what its children do, and to start them at once."""
    program = "import sys, zkstore.server.serve; print(*sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=ROOT)
    assert not {"lmdb", "uvloop", "asyncio", "msgpack"} & set(output.split())
