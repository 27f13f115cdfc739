"""The command `zkstore`: finds the subcommand and hands it the rest of the line.

Owns:   the way subcommands are found: the entry-point group `zkstore.commands`.
Design: entry points, so that zkstore/ never imports tools/, and another package can add a command.
  `serve` is known here as well: it starts without reading the metadata of every installed package.
  In a checkout that is not installed the entry points are those of its setup.cfg, and the tools
  are found where they are kept there.
Not here: what a subcommand does: a function main(argv) -> exit code whose docstring begins with a
  line for the list of commands.
"""

from __future__ import annotations

import configparser
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from zkstore.version import VERSION

Command = Callable[[list[str]], int]

GROUP: Final = "zkstore.commands"
_SERVE: Final = EntryPoint("serve", "zkstore.server.serve:main", GROUP)
_USAGE_CODE: Final = 2


def main(argv: list[str] | None = None) -> int:
    """Runs the subcommand that the first argument names; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    name = arguments[0] if arguments else ""
    if name == _SERVE.name:
        return _run(_SERVE, arguments[1:])
    if name in ("--version", "-V", "version"):
        print(f"zkstore {VERSION}")
        return 0
    points = (*_of_checkout(), *entry_points(group=GROUP), _SERVE)
    commands = {point.name: point for point in points}
    if name in ("--help", "-h", "help"):
        print(_usage(commands))
        return 0
    if name in commands:
        return _run(commands[name], arguments[1:])
    problem = f"there is no command {name}" if name else "a command is missing"
    print(f"zkstore: {problem}\n{_usage(commands)}", file=sys.stderr)
    return _USAGE_CODE


def _of_checkout() -> list[EntryPoint]:
    """The commands of a checkout; none where zkstore is installed without one."""
    root = Path(__file__).parents[2]
    metadata = configparser.ConfigParser()
    if not (root / "tools" / "__init__.py").exists() or not metadata.read(root / "setup.cfg"):
        return []
    lines = metadata.get("options.entry_points", GROUP, fallback="").split("\n")
    named = (line.split(" = ") for line in lines if " = " in line)
    folder = "zkstore.tools." if find_spec("zkstore.tools") is not None else "tools."
    return [
        EntryPoint(name, value.replace("zkstore.tools.", folder), GROUP) for name, value in named
    ]


def _run(point: EntryPoint, arguments: list[str]) -> int:
    command: Command = point.load()
    return command(arguments)


def _usage(commands: dict[str, EntryPoint]) -> str:
    lines = ["usage: zkstore COMMAND [ARGUMENTS]", "       zkstore --version", "", "commands:"]
    for name, point in sorted(commands.items()):
        summary = (point.load().__doc__ or "").partition("\n")[0]
        lines.append(f"  {name:<10} {summary}")
    lines += ["", "zkstore COMMAND --help tells more about each."]
    return "\n".join(lines)
