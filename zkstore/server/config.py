"""Turns a zoo.cfg, system properties and the command's options into one replica's Settings.

Owns:   the rules between keys: what is required, what contradicts, which of two sources wins.
Invariants:
  1. No key is passed over in silence: it is understood, or a warning says what it means here, or
     its value asks for what zkstore does anyway.
  2. A wrong value raises ConfigError with its place, key, value and what was expected.
  3. A warning names a key, never a value: passwords are values.
Design: a setting given twice is taken as Apache takes it. zoo.cfg wins over -Dzookeeper.x, because
  Apache makes system properties of its keys; but -D wins for the few properties whose full name has
  no `zookeeper.`, because a key of zoo.cfg never reaches those. Options of `zkstore serve` win over
  both.
Not here: the syntax of the file (properties.py), the keys (config_keys.py), kinds of values
  (values.py), cluster lines (servers.py).
Source: QuorumPeerConfig, ServerConfig and ZooKeeperServerMain of ZooKeeper 3.9.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from zkstore.constants import EXTENDED_SID_MAX
from zkstore.errors import ConfigError
from zkstore.server import auth_providers, config_keys, properties, servers, values
from zkstore.server.properties import Property
from zkstore.server.values import INT32_MAX
from zkstore.settings import Settings
from zkstore.zab.membership import ANY_HOST, Member, Membership, read_role

# Apache never purges below three snapshots, whatever the file says.
SNAPSHOTS_KEPT_MIN: Final = 3
# The client port when neither file nor option names one; Apache would serve no client at all.
CLIENT_PORT_DEFAULT: Final = 2181


class Source(NamedTuple):
    """The properties of one file, or of Apache's positional arguments."""

    name: str
    lines: list[Property]


class Configuration(NamedTuple):
    settings: Settings
    warnings: list[str]


def read_file(path: Path) -> Source:
    """The properties of a zoo.cfg. Raises: ConfigError if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    return Source(str(path), properties.parse(properties.decode(content), str(path)))


def apache_arguments(arguments: Sequence[str]) -> Source:
    """The standalone server's other form of arguments: port dataDir [tickTime] [maxClientCnxns]."""
    keys = ("clientPort", "dataDir", "tickTime", "maxClientCnxns")
    if not 2 <= len(arguments) <= len(keys):
        raise ConfigError(
            "expected a configuration file, or: port dataDir [tickTime] [maxClientCnxns]"
        )
    lines = [
        Property(key, value, f"argument {number}")
        for number, (key, value) in enumerate(zip(keys, arguments, strict=False), start=1)
    ]
    return Source("arguments", lines)


def read_options(given: Mapping[str, tuple[str, str | None]]) -> dict[str, object]:
    """The fields that the command's own options set.

    Shape:  option -> (the key that means the same, the text given or None).
    Raises: ConfigError.
    """
    fields: dict[str, object] = {}
    for option, (key, text) in given.items():
        if text is None:
            continue
        understood = config_keys.UNDERSTOOD[key]
        try:
            fields[understood.field] = understood.read(text)
        except ValueError as error:
            raise ConfigError(f"{option} {text}: expected {error}") from error
    return fields


def configure(
    source: Source | None,
    definitions: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
) -> Configuration:
    """The settings of a replica.

    Shape:  `definitions` are what followed each -D: "name=value"; `options` maps fields of Settings
            to values that the command's own options gave.
    Raises: ConfigError.
    """
    build = _Build(source, dict(options or {}))
    build.gather(definitions)
    build.translate()
    build.combine()
    return build.result()


class _Build:
    """The settings in the making; its methods are called once each, in the order they stand."""

    def __init__(self, source: Source | None, options: dict[str, object]) -> None:
        self._source = source
        self._options = options
        self._given: dict[str, Property] = {}  # by the name without zookeeper.
        self._fields: dict[str, Any] = {}
        self._warnings: list[str] = []

    def gather(self, definitions: Sequence[str]) -> None:
        """Decides for each name which of its spellings and sources counts."""
        for line in self._source.lines if self._source else ():
            name = self._name_in_file(line)
            if (before := self._given.get(name)) is not None:
                self._warn(line, f"{line.key} replaces the value of {before.where}")
            self._given[name] = line
        for definition in definitions:
            key, _, value = definition.partition("=")
            prop = Property(key, value.strip(), f"-D{key}")
            defined = self._name_of_definition(prop)
            if defined is None:
                continue
            line_of_file = self._given.get(defined)
            if line_of_file is None or line_of_file.where.startswith("-D"):
                self._given[defined] = prop
            elif defined in config_keys.FULL_NAMES:
                self._warn(line_of_file, f"{line_of_file.key} is overridden by {prop.where}")
                self._given[defined] = prop
            else:
                self._warn(prop, f"overridden by {line_of_file.key} of {line_of_file.where}")

    def translate(self) -> None:
        """Sets the fields of the keys that stand for themselves; warns of those without effect."""
        for name, prop in self._given.items():
            understood = config_keys.UNDERSTOOD.get(name)
            if understood is not None:
                self._fields[understood.field] = self._read(name, understood.read)
            elif (nothing := config_keys.no_effect(name)) is not None:
                if prop.value.lower() not in nothing.quiet:
                    reason = f"{prop.key} has no effect in this version: {nothing.reason}"
                    self._warn(prop, reason)
            elif name not in config_keys.HANDLED and not name.startswith(
                config_keys.HANDLED_FAMILIES
            ):
                similar = config_keys.similar(name)
                self._warn(prop, f"{prop.key} is not a setting of ZooKeeper{similar}")

    def combine(self) -> None:
        """The rules that look at more than one key."""
        if self._source and "data_dir" not in self._fields | self._options:
            raise ConfigError(f"{self._source.name}: dataDir is missing; it is required")
        self._client_port(self._cluster())
        self._session_timeouts()
        self._authentication()
        self._autopurge()
        self._fourletter_words()

    def result(self) -> Configuration:
        settings = dataclasses.replace(Settings(), **(self._fields | self._options))
        self._data_directory(Path(settings.data_dir))
        return Configuration(settings, self._warnings)

    # How names are spelled

    def _name_in_file(self, line: Property) -> str:
        name = line.key
        if name.startswith("zookeeper."):
            name = name.removeprefix("zookeeper.")
            self._warn(line, f"{line.key} is read as {name}; Apache ignores it in this spelling")
        return config_keys.MANUAL_NAMES.get(name, name)

    def _name_of_definition(self, prop: Property) -> str | None:
        """The name that a -D argument sets; None after a warning if it sets nothing."""
        if prop.key.startswith("zookeeper."):
            name = prop.key.removeprefix("zookeeper.")
            if config_keys.is_direct(name):
                self._warn(prop, f"ignored, as by Apache: {name} is read from zoo.cfg only")
                return None
            return config_keys.MANUAL_NAMES.get(name, name)
        if config_keys.is_property(prop.key):
            return prop.key
        self._warn(prop, f"ignored: {prop.key} is not a system property of ZooKeeper")
        return None

    # Reading values

    def _warn(self, prop: Property, message: str) -> None:
        self._warnings.append(f"{prop.where}: {message}")

    def _read(self, name: str, read: values.Reader) -> Any:
        prop = self._given[name]
        try:
            return read(prop.value)
        except ValueError as error:
            raise self._wrong(prop, f"expected {error}") from error

    def _read_or(self, name: str, read: values.Reader, default: object) -> Any:
        return self._read(name, read) if name in self._given else default

    def _wrong(self, prop: Property, message: str) -> ConfigError:
        return ConfigError(f"{prop.where}: {prop.key}={prop.value}: {message}")

    # The rules, one function each

    def _member_lines(self) -> list[Property]:
        lines = [prop for name, prop in self._given.items() if servers.is_member_line(name)]
        dynamic = self._given.get("dynamicConfigFile")
        if dynamic is None:
            return lines
        if lines:
            raise self._wrong(lines[0], "must be in the dynamicConfigFile, which is set")
        return servers.read_dynamic_lines(read_file(Path(dynamic.value)).lines)

    def _cluster(self) -> Member | None:
        """This server's own line, if there is any; an ensemble's members and this one's id."""
        lines = self._member_lines()
        membership = servers.read(lines)
        may_be_alone = self._read_or("standaloneEnabled", values.boolean, True)
        self._read_or("electionAlg", values.integer(3, 3), 3)
        data_dir = Path((self._fields | self._options).get("data_dir", Settings().data_dir))
        if membership and not (may_be_alone and len(membership.voters) == 1):
            return self._ensemble(membership, lines[0], data_dir)
        self._fields["server_id"] = self._myid(data_dir)
        if self._read_or("peerType", read_role, "participant") == "observer":
            prop = self._given["peerType"]
            self._warn(prop, "peerType=observer means nothing to a single server")
        if membership is None:
            for line in lines:
                self._warn(line, f"{line.key} has no effect without server lines")
            if not may_be_alone:
                prop = self._given["standaloneEnabled"]
                raise ConfigError(f"{prop.where}: standaloneEnabled=false needs a server line")
            return None
        if membership.observers:
            raise self._wrong(lines[0], "an observer needs more than one participant")
        self._warn(
            lines[0],
            f"the only server line {lines[0].key}: this server runs standalone; only its client"
            " address is used",
        )
        return next(iter(membership.members.values()))

    def _ensemble(self, membership: Membership, first: Property, data_dir: Path) -> Member:
        """This server's line. Sets what makes a server the member of an ensemble."""
        member = servers.find_own(membership, data_dir / "myid")
        self._fields["members"] = membership.text().decode()
        self._fields["server_id"] = member.sid
        for name in ("sslQuorum", "quorum.auth.enableSasl"):
            if self._read_or(name, values.boolean, False):
                raise self._wrong(
                    self._given[name], "comes with a later version: no other member would answer"
                )
        for key, field in (("initLimit", "init_limit_ticks"), ("syncLimit", "sync_limit_ticks")):
            if self._fields.get(field) == 0:
                raise self._wrong(self._given[key], "expected at least 1 tick in an ensemble")
            if field not in self._fields:
                ticks = getattr(Settings(), field)
                self._warnings.append(f"{first.where}: {key} is missing; {ticks} is used")
        if self._fields.get("notification_interval_ms_max", INT32_MAX) < self._fields.get(
            "notification_interval_ms_min", 0
        ):
            prop = self._given["fastleader.maxNotificationInterval"]
            raise self._wrong(prop, "expected at least fastleader.minNotificationInterval")
        if member.sid > EXTENDED_SID_MAX:
            if self._fields.setdefault("extended_types_enabled", False):
                prop = self._given["extendedTypesEnabled"]
                raise self._wrong(prop, f"expected an id up to {EXTENDED_SID_MAX} in myid with it")
            self._warn(first, f"myid is above {EXTENDED_SID_MAX}: no nodes with a TTL here")
        if "peerType" in self._given:
            role = self._read("peerType", read_role)
            if (role == "observer") != member.observer:
                self._warn(self._given["peerType"], "peerType: what the server line says counts")
        if message := servers.weakness(membership):
            self._warn(first, message)
        return member

    def _client_port(self, own: Member | None) -> None:
        address = self._given.get("clientPortAddress")
        if address is not None and "client_port" not in self._fields | self._options:
            raise self._wrong(address, "clientPort is not set")
        if own is not None and own.client is not None:
            host, port = own.client
            if self._fields.setdefault("client_port", port) != port:
                line = self._given["clientPort"]
                raise self._wrong(line, f"the server line says client port {port}")
            if host != ANY_HOST:
                self._fields.setdefault("client_port_address", host)
        secure = self._given.get("secureClientPort")
        if secure is not None:
            self._read("secureClientPort", values.integer(0, 65535))
            if "client_port" not in self._fields | self._options:
                raise self._wrong(
                    secure, "TLS comes with a later version, and there is no clientPort to serve"
                )
            self._warn(secure, "secureClientPort has no effect: TLS comes with a later version")
        if self._source and "client_port" not in self._fields | self._options:
            self._warnings.append(
                f"{self._source.name}: clientPort is missing; {CLIENT_PORT_DEFAULT} is used"
            )
            self._fields["client_port"] = CLIENT_PORT_DEFAULT

    def _session_timeouts(self) -> None:
        settings = dataclasses.replace(Settings(), **self._fields)
        least, greatest = settings.session_timeout_ms_bounds
        if least > greatest:
            prop = self._given.get("minSessionTimeout") or self._given["maxSessionTimeout"]
            raise self._wrong(
                prop,
                f"minSessionTimeout ({least} ms) must not be larger than maxSessionTimeout"
                f" ({greatest} ms)",
            )

    def _authentication(self) -> None:
        providers = []
        for name, prop in sorted(self._given.items()):
            if name.startswith("authProvider."):
                provider, message = auth_providers.translate(prop.value)
                providers += [provider] if provider else []
                if message:
                    self._warn(prop, f"{prop.key}: {message}")
        self._fields["auth_providers"] = tuple(providers)
        if self._fields.get("enforce_auth_enabled") and not self._fields.get(
            "enforce_auth_schemes"
        ):
            prop = self._given["enforce.auth.enabled"]
            raise self._wrong(prop, "enforce.auth.schemes must be set with it")
        if self._read_or("sessionRequireClientSASLAuth", values.boolean, False):
            prop = self._given["sessionRequireClientSASLAuth"]
            raise self._wrong(prop, "SASL comes with a later version: no client could connect")

    def _autopurge(self) -> None:
        """Who lets Apache purge wants a bounded disk; here it is the log that is trimmed.

        Apache keeps a number of snapshots and the log since the oldest of them, and looks once an
        interval; that many intervals become the age up to which the log is kept.
        """
        number = values.integer(-INT32_MAX)
        kept = self._read_or("autopurge.snapRetainCount", number, SNAPSHOTS_KEPT_MIN)
        if kept < SNAPSHOTS_KEPT_MIN:
            prop = self._given["autopurge.snapRetainCount"]
            self._warn(prop, f"{prop.key} is below the least value, {SNAPSHOTS_KEPT_MIN} is used")
            kept = SNAPSHOTS_KEPT_MIN
        interval_ms = self._read_or("autopurge.purgeInterval", values.interval_hours_ms, 0)
        if interval_ms <= 0 or "log_retention_ms" in self._fields:
            return
        self._fields["log_retention_ms"] = kept * interval_ms
        self._warn(
            self._given["autopurge.purgeInterval"],
            "autopurge.purgeInterval: there are no snapshots to purge; the log is kept for"
            f" snapRetainCount x purgeInterval = {kept * interval_ms / 3_600_000:g} h, and within"
            " zkstore.logRetentionBytes (zkstore.logRetentionMs says it directly)",
        )

    def _fourletter_words(self) -> None:
        """Source: FourLetterCommands.isEnabled: zkServer.sh needs srvr, so it is always there."""
        words = list(self._fields.get("fourletter_whitelist", ()))
        if self._read_or("readonlymode.enabled", values.boolean, False):
            prop = self._given["readonlymode.enabled"]
            self._warn(prop, f"{prop.key}: no read-only mode yet; it only allows the word isro")
            words.append("isro")
        words.append("srvr")
        self._fields["fourletter_whitelist"] = (
            ("*",) if "*" in words else tuple(dict.fromkeys(words))
        )

    def _myid(self, data_dir: Path) -> int:
        """The server's id from the file myid; 0 without one, which is enough for one server.

        Raises: ConfigError if the file cannot be read.
        """
        path = data_dir / "myid"
        try:
            first_line = path.read_text().partition("\n")[0].strip()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        try:
            return values.integer(0, values.INT64_MAX)(first_line)
        except ValueError as error:
            # Debian's package puts a sentence there that asks for a number.
            self._warnings.append(f"{path}:1: not used: expected {error}")
            return 0

    def _data_directory(self, data_dir: Path) -> None:
        if self._read_or("datadir.autocreate", values.boolean, True):
            return
        if not (data_dir / "zkstore").is_dir():
            raise self._wrong(
                self._given["datadir.autocreate"], f"there is no data in {data_dir} yet"
            )
