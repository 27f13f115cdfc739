"""The settings of a running replica: looked up and changed by the names that zoo.cfg has for them.

Owns:   which settings may change, and what has been changed since the start.
Invariants:
  1. A change is valid as a whole: a value that zoo.cfg would refuse is refused here.
  2. All processes have it: the workers by message, those that come later and the next commit
     process by the supervisor, which is told as well.
Design: most settings are read where they are used, from Loop.settings and Worker.settings, so a
        change replaces these; `_adopt` knows the few that somebody keeps a copy of. What is
        changed lasts until the server ends: the configuration file is its owner's.
Not here: names and values (server/config_keys.py), who asks (commit/control.py).
Source: the MBeans of Apache ZooKeeper; reference S4.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from zkstore.commit.loop import Loop
from zkstore.commit.ports import Port
from zkstore.errors import ConfigError
from zkstore.records import ipc
from zkstore.server import config_keys
from zkstore.server.values import yes_no
from zkstore.settings import Settings

_log = logging.getLogger("zkstore.admin")

_LIVE: Final = frozenset(
    {
        "4lw.commands.whitelist",
        "connection_throttle_decrease_ratio",
        "connection_throttle_drop_decrease",
        "connection_throttle_drop_increase",
        "connection_throttle_fill_count",
        "connection_throttle_fill_time",
        "connection_throttle_freeze_time",
        "connection_throttle_global_session_weight",
        "connection_throttle_local_session_weight",
        "connection_throttle_renew_session_weight",
        "connection_throttle_tokens",
        "connection_throttle_weight_enabled",
        "fsync.warningthresholdms",
        "globalOutstandingLimit",
        "largeRequestMaxBytes",
        "largeRequestThreshold",
        "maxClientCnxns",
        "maxCnxns",
        "maxSessionTimeout",
        "minSessionTimeout",
        "nio.sessionlessCnxnTimeout",
        "request_stale_connection_check",
        "request_stale_latency_check",
        "request_throttle_drop_stale",
        "request_throttle_max_requests",
        "request_throttle_stall_time",
        "throttled_op_wait_time",
        "zkstore.checkpointBytes",
        "zkstore.checkpointIntervalMs",
        "zkstore.logRetentionBytes",
        "zkstore.logRetentionMs",
        "znode.container.checkIntervalMs",
        "znode.container.maxNeverUsedIntervalMs",
        "znode.container.maxPerMinute",
    }
)
# Of a server alone; a member of an ensemble keeps time by them with the others.
_LIVE_ALONE: Final = frozenset({"initLimit", "syncLimit", "tickTime"})
_SECRET: Final = frozenset({"DigestAuthenticationProvider.superDigest"})


class Setting(NamedTuple):
    name: str
    value: str  # as zoo.cfg has it
    live: bool  # whether it may be changed


class LiveSettings:
    """Gets and sets, for whoever is let in to ask."""

    def __init__(self, loop: Loop, on_change: Callable[[dict[str, Any]], None]) -> None:
        """`on_change` is given the fields that changed, for processes that start later."""
        self._loop = loop
        self._on_change = on_change
        self._changed: dict[str, Any] = {}

    def get(self, name: str = "") -> list[Setting]:
        """One setting, or all, by name. Raises: ConfigError."""
        names = [_known(name)] if name else sorted(config_keys.UNDERSTOOD)
        return [Setting(one, self._shown(one), self._is_live(one)) for one in names]

    def set(self, name: str, text: str) -> tuple[str, str]:
        """Change a setting; returns the value before and after. Raises: ConfigError."""
        name = _known(name)
        if not self._is_live(name):
            raise ConfigError(
                f"{name} cannot be changed while the server runs: change it in the configuration"
                " and start the server again"
            )
        entry = config_keys.UNDERSTOOD[name]
        try:
            value = entry.read(text)
        except ValueError as error:
            raise ConfigError(f"{name}={text}: expected {error}") from error
        if isinstance(value, tuple) and name == "4lw.commands.whitelist":
            value = tuple(dict.fromkeys((*value, "srvr")))  # which is always allowed, as in Apache
        before, settings = self._shown(name), self._loop.settings.altered({entry.field: value})
        least, greatest = settings.session_timeout_ms_bounds
        if least > greatest:
            raise ConfigError(
                f"{name}={text}: minSessionTimeout ({least} ms) must not be larger than"
                f" maxSessionTimeout ({greatest} ms)"
            )
        self._adopt(settings, {entry.field: value})
        _log.info("%s changed by the administrator from %s to %s", name, before, self._shown(name))
        return before, self._shown(name)

    def tell(self, port: Port) -> None:
        """A worker has come; it may have been started before the last change."""
        if self._changed:
            port.put(ipc.SETTINGS, 0, 0, self._changed)

    def _adopt(self, settings: Settings, changed: dict[str, Any]) -> None:
        loop = self._loop
        loop.settings = settings
        loop.ports.limit(settings.max_client_cnxns, settings.max_cnxns)
        loop.sessions.throttle.adopt(settings)
        writer = loop.writer
        writer.retention_ms = settings.log_retention_ms
        writer.retention_bytes = settings.log_retention_bytes
        writer.flush_warning_ms = settings.fsync_warning_threshold_ms
        self._changed |= changed
        for port in loop.ports.ports:
            port.put(ipc.SETTINGS, 0, 0, changed)
        loop.finish_turn()
        self._on_change(changed)

    def _is_live(self, name: str) -> bool:
        return name in _LIVE or (name in _LIVE_ALONE and not self._loop.settings.members)

    def _shown(self, name: str) -> str:
        """The value in the words of zoo.cfg; a session's bounds are those in force."""
        settings = self._loop.settings
        entry = config_keys.UNDERSTOOD[name]
        value = getattr(settings, entry.field)
        if name in ("minSessionTimeout", "maxSessionTimeout"):
            value = settings.session_timeout_ms_bounds[name == "maxSessionTimeout"]
        if isinstance(value, bool):
            words = ("no", "yes") if entry.read is yes_no else ("false", "true")
            return words[value]
        if isinstance(value, tuple):
            return ",".join(map(str, value))
        if value is None:
            return ""
        return "(not shown)" if name in _SECRET and value else str(value)


def _known(name: str) -> str:
    """The name of the code for a name of zoo.cfg, of a property or of the manual.

    Raises: ConfigError.
    """
    plain = name.removeprefix("zookeeper.")
    plain = config_keys.MANUAL_NAMES.get(plain, plain)
    if plain in config_keys.UNDERSTOOD:
        return plain
    nothing = config_keys.no_effect(plain)
    if nothing is not None:
        raise ConfigError(f"{name} has no effect in this version: {nothing.reason}")
    if plain in config_keys.HANDLED or plain.startswith(config_keys.HANDLED_FAMILIES):
        raise ConfigError(f"{name} is read at the start only: see the configuration")
    raise ConfigError(f"{name} is not a setting of ZooKeeper{config_keys.similar(plain)}")
