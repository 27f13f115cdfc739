"""The commands on the session and on the service: identities, configuration, versions.

Source: the classes of org.apache.zookeeper.cli, ConfigUtils, QuorumPeerConfig.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from zkstore.client.raw import CONFIG
from zkstore.version import VERSION

from . import text
from .command import Command, Context
from .grammar import Given, Option, Options, Refused

_RECONFIG_FORM: Final = (
    "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] |"
    " [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]"
)
_MEMBERSHIP: Final = ("server.", "group.", "weight.")


async def _add_auth(context: Context, given: Given) -> None:
    arguments = given.arguments
    credentials = None
    if len(arguments) > 2:
        credentials = arguments[2].encode(errors="surrogateescape")
    await context.link.add_auth(arguments[1], credentials)


async def _whoami(context: Context, given: Given) -> None:
    identities = await context.link.ask(None, context.link.raw.who_am_i())
    context.out.write("Auth scheme: User\n")
    for identity in identities:
        context.out.write(f"{identity.scheme}: {identity.user}\n")


async def _close(context: Context, given: Given) -> None:
    await context.link.close()


async def _version(context: Context, given: Given) -> None:
    context.out.write(f"ZooKeeper CLI version: zkstore {VERSION}\n")


async def _config(context: Context, given: Given) -> None:
    raw = context.link.raw
    data, stat = await context.link.ask(CONFIG, raw.config(watch=given.has("w")))
    shown = text.shown(data)
    context.out.write(f"{_client_config(shown) if given.has('c') else shown}\n")
    if given.has("s"):
        context.out.write(text.stat_lines(stat))


def _client_config(config: str) -> str:
    """The version, then the addresses that clients may connect to."""
    version, addresses = "", []
    for key, value in _properties(config.splitlines()):
        if key == "version":
            version = value
        elif key.startswith("server."):
            addresses.append(_client_address(value.partition(";")[2]))
    return f"{version} {','.join(addresses)}"


def _client_address(written: str) -> str:
    """`host:port`; a port alone is one on every address."""
    host, _, port = written.rpartition(":")
    return f"{host.strip('[]') or '0.0.0.0'}:{port}" if port else ""


def _properties(lines: Iterable[str]) -> list[tuple[str, str]]:
    """The settings of a configuration, without comments."""
    pairs = [line.partition("=") for line in lines if not line.lstrip().startswith("#")]
    return [(key.strip(), value.strip()) for key, equals, value in pairs if equals]


async def _reconfig(context: Context, given: Given) -> None:
    values = given.values
    whole, parts = values.keys() & {"file", "members"}, values.keys() & {"add", "remove"}
    if not whole and not parts:
        raise Refused(f"reconfig {_RECONFIG_FORM}")
    version = _config_version(values.get("v"))
    if whole and parts:
        raise Refused(
            "Can't use -file or -members together with -add or -remove (mixing incremental and"
            " non-incremental modes is not allowed)"
        )
    if len(whole) > 1:
        raise Refused("Can't use -file and -members together (conflicting non-incremental modes)")
    joining, leaving, members = (
        values[name].lower() if name in values else None for name in ("add", "remove", "members")
    )
    if "file" in values:
        members = _members_of(values["file"])
    raw = context.link.raw
    changing = raw.reconfigure(joining, leaving, members, version)
    data, stat = await context.link.ask("", changing)
    context.out.write(f"Committed new configuration:\n{text.shown(data)}\n")
    if given.has("s"):
        context.out.write(text.stat_lines(stat))


def _config_version(word: str | None) -> int:
    """Hexadecimal, as `config` shows it; -1 for none. Raises: Refused."""
    if word is None:
        return -1
    try:
        return int(word, 16)
    except ValueError:
        raise Refused("-v must be followed by a long (configuration version)") from None


def _members_of(path: str) -> str:
    """The lines of a configuration file that say who is a member. Raises: Refused."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise Refused(f"Error processing {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"Error processing {path}: it is not text") from None
    found = [f"{key}={value}" for key, value in _properties(lines) if key.startswith(_MEMBERSHIP)]
    if not found:
        raise Refused(f"Error processing {path}: it names no server")
    return "\n".join(found)


COMMANDS: Final = (
    Command("addauth", "scheme auth", _add_auth, arguments_min=1),
    Command("whoami", "", _whoami, any_words=True),
    Command("close", "", _close, any_words=True),
    Command("version", "", _version, arguments_max=0),
    Command(
        "config", "[-c] [-w] [-s]", _config,
        options=Options((
            Option("s", "stats"), Option("w", "watch"), Option("c", "client connection string"),
        )),
    ),
    Command(
        "reconfig", _RECONFIG_FORM, _reconfig,
        options=Options((
            Option("s", "stats"),
            Option("v", "required current config version", has_value=True),
            Option("file", "path of config file to parse for membership", has_value=True),
            Option("members", "config strings for non-incremental reconfig", has_value=True),
            Option("add", "config strings for new servers", has_value=True),
            Option("remove", "server IDs to remove", has_value=True),
        )),
    ),
)  # fmt: skip
