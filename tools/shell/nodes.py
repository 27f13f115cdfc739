"""The commands on nodes and on their watches.

Source: the classes of org.apache.zookeeper.cli, ZKUtil.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final

from zkstore.client import ANY_VERSION, Acl
from zkstore.client.limits import PAGE_NODES
from zkstore.client.model import Creation
from zkstore.client.paths import join
from zkstore.client.raw import WatchKind
from zkstore.errors import Code

from . import text
from .command import Command, Context, path_of
from .grammar import Given, Option, Options, Refused
from .link import Failed, Link

_TTL_MS_MAX: Final = (1 << 40) - 1
_BATCH: Final = 1000
_BATCHES_AT_ONCE: Final = 10

_REMOVED: Final = {
    WatchKind.CHILDREN: "ChildWatchRemoved",
    WatchKind.DATA: "DataWatchRemoved",
    WatchKind.PERSISTENT: "PersistentWatchRemoved",
    WatchKind.RECURSIVE: "PersistentWatchRemoved",
}


# ---- reads


async def _ls(context: Context, given: Given) -> None:
    path, link = path_of(given), context.link
    watch = given.has("w")
    if given.has("R"):
        async for found in _subtree(link, path, watch=watch):
            context.out.write(f"{found}\n")
        return
    names, stat = await link.ask(path, link.raw.children(path, watch=watch))
    context.out.write(f"[{', '.join(names)}]\n")
    if given.has("s"):
        context.out.write(text.stat_lines(stat))


async def _get(context: Context, given: Given) -> None:
    path, link = path_of(given), context.link
    data, stat = await link.ask(path, link.raw.get(path, watch=given.has("w")))
    if given.has("x"):
        shown = text.hex_dump(b"null" if data is None else data)
    elif given.has("b"):
        shown = base64.b64encode(b"null" if data is None else data).decode()
    else:
        shown = text.shown(data)
    context.out.write(f"{shown}\n")
    if given.has("s"):
        context.out.write(text.stat_lines(stat))


async def _stat(context: Context, given: Given) -> None:
    path, link = path_of(given), context.link
    stat = await link.ask(path, link.raw.exists(path, watch=given.has("w")))
    if stat is None:
        raise Failed(Code.NO_NODE, path)
    context.out.write(text.stat_lines(stat))


async def _get_all_children_number(context: Context, given: Given) -> None:
    path, link = path_of(given), context.link
    context.out.write(f"{await link.ask(path, link.raw.descendants(path))}\n")


async def _get_ephemerals(context: Context, given: Given) -> None:
    prefix = path_of(given) if len(given.arguments) > 1 else "/"
    found = await context.link.ask(None, context.link.raw.ephemerals(prefix))
    context.out.write(f"[{', '.join(found)}]\n")


async def _sync(context: Context, given: Given) -> None:
    path, link = path_of(given), context.link
    try:
        await link.ask(path, link.client.sync(path))
    except Failed as failed:
        context.out.write(f"Sync has failed. rc={failed.code}\n")
    else:
        context.out.write("Sync is OK\n")


async def _subtree(link: Link, path: str, *, watch: bool) -> AsyncIterator[str]:
    """The node, then what is below it: all children of a node before their own. Nodes that go
    meanwhile are left out."""
    await link.ask(path, link.raw.get(path, watch=watch))
    yield path
    waiting = [path]
    while waiting:
        parent = waiting.pop()
        try:
            names, _ = await link.ask(parent, link.raw.children(parent, watch=watch))
        except Failed as failed:
            if failed.code is not Code.NO_NODE:
                raise
            continue
        children = [join(parent, name) for name in names]
        for child in children:
            yield child
        waiting += reversed(children)


# ---- writes


async def _create(context: Context, given: Given) -> None:
    creation = _creation(given)
    path, link = given.arguments[1], context.link
    data = _encoded(given.arguments[2]) if len(given.arguments) > 2 else None
    if len(given.arguments) > 3:
        creation = replace(creation, acl=_acl(context, given.arguments[3]))
    text.check_path(path, sequential=creation.sequential)
    try:
        _check_acl(creation.acl)
        created = await link.ask(path, link.raw.create(path, data, creation))
    except Failed as failed:
        if failed.code is Code.INVALID_ACL:
            context.complain(failed.keeper_error)
        if failed.code is Code.EPHEMERAL_ON_LOCAL_SESSION:
            context.complain("Unable to create ephemeral node on a local session")
        raise
    context.complain(f"Created {created}")


def _creation(given: Given) -> Creation:
    """Raises: Refused for options that exclude each other."""
    ephemeral, sequential = given.has("e"), given.has("s")
    container, has_ttl = given.has("c"), given.has("t")
    if container and (ephemeral or sequential):
        raise Refused(
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential."
        )
    ttl_ms = given.integer("t", 0, bits=64)
    if has_ttl and ephemeral:
        raise Refused("TTLs cannot be used with Ephemeral znodes")
    if has_ttl and container:
        raise Refused("TTLs cannot be used with Container znodes")
    if has_ttl and not 0 < ttl_ms <= _TTL_MS_MAX:
        raise Refused(f"ttl must be positive and cannot be larger than: {_TTL_MS_MAX}")
    return Creation(
        ephemeral=ephemeral,
        sequential=sequential,
        container=container,
        ttl_ms=ttl_ms if has_ttl else None,
    )


async def _set(context: Context, given: Given) -> None:
    path, link = given.arguments[1], context.link
    data = _encoded(given.arguments[2])
    if given.has("b"):
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise Refused(f"The data is not base64: {error}") from None
    version = given.integer("v", ANY_VERSION)
    text.check_path(path)
    node = await link.ask(path, link.client.set(path, data, version))
    if given.has("s"):
        context.out.write(text.stat_lines(node.stat))


async def _delete(context: Context, given: Given) -> None:
    version = given.integer("v", ANY_VERSION)
    path, link = path_of(given), context.link
    await link.ask(path, link.client.delete(path, version))


async def _deleteall(context: Context, given: Given) -> None:
    size = given.integer("b", _BATCH)
    path, link = path_of(given), context.link
    paths = [found async for found in _levels(link, path)]
    paths.reverse()  # leaves first
    if size <= 0:
        for one in paths:
            await link.ask(one, link.client.delete(one))
        return
    batches = [paths[start : start + size] for start in range(0, len(paths), size)]
    for start in range(0, len(batches), _BATCHES_AT_ONCE):
        some = batches[start : start + _BATCHES_AT_ONCE]
        done = await asyncio.gather(*(_delete_batch(link, batch) for batch in some))
        if not all(done):
            context.complain("Failed to delete some node(s) in the subtree!")
            return


async def _levels(link: Link, path: str) -> AsyncIterator[str]:
    """The node and what is below it, level by level."""
    level = [path]
    while level:
        for one in level:
            yield one
        below: list[str] = []
        for start in range(0, len(level), PAGE_NODES):
            some = level[start : start + PAGE_NODES]
            found = await asyncio.gather(*(link.ask(one, link.raw.children(one)) for one in some))
            below += [
                join(parent, name)
                for parent, (names, _) in zip(some, found, strict=True)
                for name in names
            ]
        level = below


async def _delete_batch(link: Link, paths: list[str]) -> bool:
    transaction = link.client.transaction()
    for path in paths:
        transaction.delete(path)
    try:
        await link.ask(None, transaction.commit())
    except Refused:
        return False
    return True


def _encoded(word: str) -> bytes:
    """A word as it was typed, even if its bytes are no text."""
    return word.encode(errors="surrogateescape")


# ---- access control lists


async def _get_acl(context: Context, given: Given) -> None:
    path, link = path_of(given), context.link
    entries, stat = await link.ask(path, link.client.get_acl(path))
    context.out.write(text.acl_lines(entries))
    if given.has("s"):
        context.out.write(text.stat_lines(stat))


async def _set_acl(context: Context, given: Given) -> None:
    path, link = given.arguments[1], context.link
    acl = _acl(context, given.arguments[2])
    version = given.integer("v", ANY_VERSION)
    text.check_path(path)
    if not given.has("R"):
        _check_acl(acl)
        stat = await link.ask(path, link.client.set_acl(path, acl, version))
        if given.has("s"):
            context.out.write(text.stat_lines(stat))
        return
    async for found in _subtree(link, path, watch=False):
        try:
            _check_acl(acl)
            await link.ask(found, link.client.set_acl(found, acl, version))
        except Failed as failed:
            context.out.write(failed.keeper_error)


def _acl(context: Context, word: str) -> list[Acl]:
    """What can be read of it; the rest is complained of."""
    acl, complaints = text.parse_acl(word)
    for complaint in complaints:
        context.complain(complaint)
    return acl


def _check_acl(acl: Sequence[Acl]) -> None:
    """Raises: Failed for an empty list, as Java's client does without asking a server."""
    if not acl:
        raise Failed(Code.INVALID_ACL, None)


# ---- watches


async def _add_watch(context: Context, given: Given) -> None:
    mode = given.values.get("m", "PERSISTENT_RECURSIVE").upper()
    if mode not in ("PERSISTENT", "PERSISTENT_RECURSIVE"):
        raise Refused(f"addWatch {_ADD_WATCH_FORM}")
    path, link = path_of(given), context.link
    recursive = mode == "PERSISTENT_RECURSIVE"
    await link.ask(path, link.raw.add_watch(path, recursive=recursive))


async def _remove_watches(context: Context, given: Given) -> None:
    kinds = {
        "c": WatchKind.CHILDREN,
        "d": WatchKind.DATA,
        "p": WatchKind.PERSISTENT,
        "r": WatchKind.RECURSIVE,
    }
    kind = next((kind for name, kind in kinds.items() if given.has(name)), WatchKind.ANY)
    path, link = path_of(given), context.link
    removing = link.raw.remove_watches(path, kind, local=given.has("l"))
    removed = await link.ask(path, removing)
    for name in dict.fromkeys(_REMOVED[one] for one in removed):
        link.told(name, path)


_WATCH: Final = Option("w", "watch")
_STAT: Final = Option("s", "stats")
_ADD_WATCH_FORM: Final = (
    "[-m mode] path # optional mode is one of [PERSISTENT, PERSISTENT_RECURSIVE]"
    " - default is PERSISTENT_RECURSIVE"
)
_STAT_TOO: Final = Option("s", "Print znode stats additionally")

COMMANDS: Final = (
    Command(
        "ls", "[-s] [-w] [-R] path", _ls, arguments_min=1,
        options=Options(
            (Option("?", "help"), Option("s", "stat"), _WATCH, Option("R", "recurse"))
        ),
        old_form="ls path [watch]", new_form="ls [-w] path", old_is_watch=True,
    ),
    Command(
        "get", "[-s] [-w] [-b] [-x] path", _get, arguments_min=1, shows_options=True,
        options=Options((
            _STAT_TOO,
            Option("w", "Watch for changes on the znode"),
            Option("b", "Output data in base64 format"),
            Option("x", "Output data in hexdump format"),
        )),
        old_form="get path [watch]", new_form="get [-s] [-w] path", old_is_watch=True,
    ),
    Command(
        "stat", "[-w] path", _stat, arguments_min=1, options=Options((_WATCH,)),
        old_form="stat path [watch]", new_form="stat [-w] path", old_is_watch=True,
    ),
    Command("getAllChildrenNumber", "path", _get_all_children_number, arguments_min=1),
    Command("getEphemerals", "path", _get_ephemerals),
    Command("sync", "path", _sync, arguments_min=1),
    Command(
        "create", "[-s] [-e] [-c] [-t ttl] path [data] [acl]", _create, arguments_min=1,
        options=Options((
            Option("e", "ephemeral"),
            Option("s", "sequential"),
            Option("c", "container"),
            Option("t", "ttl", has_value=True),
        )),
    ),
    Command(
        "set", "path data [-s] [-v version] [-b]", _set, arguments_min=2, shows_options=True,
        options=Options((
            _STAT_TOO,
            Option("v", "Set with an expected version", has_value=True),
            Option("b", "Supply data in base64 format"),
        )),
    ),
    Command(
        "delete", "[-v version] path", _delete, arguments_min=1,
        options=Options((Option("v", "version", has_value=True),)),
        old_form="delete path [version]", new_form="delete [-v version] path",
    ),
    Command(
        "deleteall", "path [-b batch size]", _deleteall, arguments_min=1,
        options=Options((Option("b", "batch size", has_value=True),)),
    ),
    Command("getAcl", "[-s] path", _get_acl, arguments_min=1, options=Options((_STAT,))),
    Command(
        "setAcl", "[-s] [-v version] [-R] path acl", _set_acl, arguments_min=2,
        options=Options(
            (_STAT, Option("v", "version", has_value=True), Option("R", "recursive"))
        ),
    ),
    Command(
        "addWatch", _ADD_WATCH_FORM, _add_watch, arguments_min=1, arguments_max=1,
        options=Options((Option("m", "", has_value=True),)),
    ),
    Command(
        "removewatches", "path [-c|-d|-a] [-l]", _remove_watches, arguments_min=1,
        options=Options((
            Option("c", "child watcher type"),
            Option("d", "data watcher type"),
            Option("p", "persistent watcher type"),
            Option("r", "persistent recursive watcher type"),
            Option("a", "any watcher type"),
            Option("l", "remove locally when there is no server connection"),
        )),
    ),
)  # fmt: skip
