"""setquota, listquota, delquota: the nodes below /zookeeper/quota that hold limits and usage.

Invariants:
  1. No quota is set above or below another one: a server counts a path for one of them only.
  2. None is set through a chroot, where it would not be one.
Source: SetQuotaCommand, ListQuotaCommand, DelQuotaCommand; reference: section K.
Not here: what a quota does (zkstore/tree/quota.py).
"""

from __future__ import annotations

from typing import Final

from zkstore.client.model import Creation
from zkstore.client.paths import join
from zkstore.errors import Code
from zkstore.tree import quota as rules

from . import text
from .command import Command, Context
from .grammar import Given, Option, Options, Refused, integer
from .link import Failed, Link

_ROOT: Final = rules.ROOT.decode()
_LIMITS: Final = "zookeeper_limits"
_STATS: Final = "zookeeper_stats"

# Option → (the limit's name, whether it is one of bytes).
_NAMES: Final = {
    "n": (b"count", False),
    "b": (b"bytes", True),
    "N": (b"countHardLimit", False),
    "B": (b"byteHardLimit", True),
}


async def _set(context: Context, given: Given) -> None:
    path = _path_of(context, given)
    if path.startswith(_ROOT):
        context.complain(f"cannot set a quota under the path: {_ROOT}")
        return
    limits: rules.Numbers = {name: -1 for name, _ in _NAMES.values()}
    for option, word in given.values.items():
        name, is_bytes = _NAMES[option]
        number = integer(word, 64 if is_bytes else 32)
        if number is None:
            context.complain("NumberFormatException happens when parsing the option value")
            return
        if is_bytes and number < 0:
            context.complain("the bytes quota must be greater than or equal to zero")
            return
        if not is_bytes and number <= 0:
            context.complain("the num quota must be greater than zero")
            return
        limits[name] = number
    text.check_path(path)
    await _create(context, path, limits)


async def _create(context: Context, path: str, limits: rules.Numbers) -> None:
    link = context.link
    if not await _exists(link, path):
        raise Refused(f"{path} does not exist.")
    await _check_below(link, path)
    await _check_above(link, path)
    for parent in _prefixes(path):
        await _make(link, parent, None)
    folder = f"{_ROOT}{path}"
    if await _make(link, f"{folder}/{_LIMITS}", rules.encode(limits)):
        await _make(link, f"{folder}/{_STATS}", rules.encode({b"count": 0, b"bytes": 0}))
        _warn(context, limits, await _numbers(link, f"{folder}/{_STATS}"))
        return
    known = await _numbers(link, f"{folder}/{_LIMITS}")
    known.update({name: number for name, number in limits.items() if number > -1})
    _warn(context, known, await _numbers(link, f"{folder}/{_STATS}"))
    await link.ask(
        f"{folder}/{_LIMITS}", link.client.set(f"{folder}/{_LIMITS}", rules.encode(known))
    )


def _warn(context: Context, limits: rules.Numbers, usage: rules.Numbers) -> None:
    for what, soft, hard in (
        (b"count", b"count", b"countHardLimit"),
        (b"bytes", b"bytes", b"byteHardLimit"),
    ):
        used = usage.get(what, -1)
        if any(-1 < limits.get(name, -1) < used for name in (soft, hard)):
            context.out.write(
                f"[Warning]: the {what.decode()} quota you create is less than the existing"
                f" {what.decode()}:{used}\n"
            )


async def _check_below(link: Link, path: str) -> None:
    """Raises: Refused if a node below has a quota."""
    waiting = [f"{_ROOT}{path}"]
    text.check_path(waiting[0])
    while waiting:
        folder = waiting.pop()
        names = await _children(link, folder)
        if _LIMITS in names and folder != f"{_ROOT}{path}":
            raise Refused(f"{path} has a child {folder.removeprefix(_ROOT)} which has a quota")
        waiting += [join(folder, name) for name in reversed(names)]


async def _check_above(link: Link, path: str) -> None:
    """Raises: Refused if a node above has a quota."""
    for folder in _prefixes(path)[:-1]:
        if _LIMITS in await _children(link, folder):
            raise Refused(f"{path} has a parent {folder.removeprefix(_ROOT)} which has a quota")


async def _list(context: Context, given: Given) -> None:
    path, link = _path_of(context, given), context.link
    limits = f"{_ROOT}{path}/{_LIMITS}"
    context.complain(f"absolute path is {limits}")
    text.check_path(limits)
    try:
        shown = await _numbers(link, limits), await _numbers(link, f"{_ROOT}{path}/{_STATS}")
    except Failed as failed:
        _complain_if_missing(context, path, failed)
        return
    for what, numbers in zip(("quota", "stat"), shown, strict=True):
        context.out.write(f"Output {what} for {path} {rules.encode(numbers).decode()}\n")


async def _delete(context: Context, given: Given) -> None:
    path, link = _path_of(context, given), context.link
    folder = f"{_ROOT}{path}"
    limits = f"{folder}/{_LIMITS}"
    text.check_path(limits)
    if not await _exists(link, limits):
        context.out.write(f"Quota does not exist for {path}\n")
        return
    try:
        if not given.values:
            await _delete_all(link, folder)
            return
        known = await _numbers(link, limits)
        known.update({_NAMES[option][0]: -1 for option in given.values})
        await link.ask(limits, link.client.set(limits, rules.encode(known)))
    except Failed as failed:
        _complain_if_missing(context, path, failed)


async def _delete_all(link: Link, folder: str) -> None:
    """All below, and every folder above that holds nothing any more."""
    names, _ = await link.ask(folder, link.raw.children(folder))
    for name in names:
        await link.ask(join(folder, name), link.client.delete(join(folder, name)))
    while folder != _ROOT:
        names, _ = await link.ask(folder, link.raw.children(folder))
        if names:
            return
        await link.ask(folder, link.client.delete(folder))
        folder = folder.rpartition("/")[0]


def _complain_if_missing(context: Context, path: str, failed: Failed) -> None:
    if failed.code is not Code.NO_NODE:
        raise failed
    context.complain(f"quota for {path} does not exist.")


def _path_of(context: Context, given: Given) -> str:
    """Raises: Refused below a chroot, where the nodes of quotas would be nodes like any others."""
    if context.link.has_chroot:
        raise Refused("Quotas are kept at the root: connect without a chroot")
    return given.arguments[1]


def _prefixes(path: str) -> list[str]:
    """The quota folders on the way to a path, and its own: /zookeeper/quota/a, ..."""
    names = path.split("/")[1:]
    return [f"{_ROOT}/{'/'.join(names[: count + 1])}" for count in range(len(names))]


async def _exists(link: Link, path: str) -> bool:
    return await link.ask(path, link.raw.exists(path)) is not None


async def _children(link: Link, path: str) -> list[str]:
    """The names; none if there is no node."""
    try:
        return (await link.ask(path, link.raw.children(path)))[0]
    except Failed as failed:
        if failed.code is not Code.NO_NODE:
            raise
        return []


async def _make(link: Link, path: str, data: bytes | None) -> bool:
    """Whether it had to be created."""
    if await _exists(link, path):
        return False
    try:
        await link.ask(path, link.raw.create(path, data, Creation()))
    except Failed as failed:
        if failed.code is not Code.NODE_EXISTS:
            raise
        return False  # somebody else was faster
    return True


async def _numbers(link: Link, path: str) -> rules.Numbers:
    """Raises: Refused for text that is no quota."""
    data, _ = await link.ask(path, link.raw.get(path))
    try:
        return rules.parse(data or b"")
    except ValueError as error:
        raise Refused(f"{path} is not a quota: {error}") from None


COMMANDS: Final = (
    Command(
        "setquota", "-n|-b|-N|-B val path", _set, arguments_min=1,
        options=Options((
            Option("n", "num soft quota", has_value=True),
            Option("b", "bytes soft quota", has_value=True),
            Option("N", "num hard quota", has_value=True),
            Option("B", "bytes hard quota", has_value=True),
        ), group=True, needed=True),
    ),
    Command("listquota", "path", _list, arguments_min=1),
    Command(
        "delquota", "[-n|-b|-N|-B] path", _delete, arguments_min=1,
        options=Options((
            Option("n", "num soft quota"),
            Option("b", "bytes soft quota"),
            Option("N", "num hard quota"),
            Option("B", "bytes hard quota"),
        ), group=True),
    ),
)  # fmt: skip
