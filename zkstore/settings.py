"""What one replica is told at its start: every setting that the running server reads, with its
default.

Owns:   the names, units and defaults of the settings. Nothing here reads a file (server/config.py
        does).
Invariants:
  1. Frozen: a process reads its settings once; what may change at run time is changed through the
     commit process.
  2. Plain values only, so that the supervisor can hand the settings to its processes as JSON.
Not here: the spelling of zoo.cfg's keys and system properties (server/config.py), hard limits
          (constants.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Settings:
    """One replica's settings; the comment behind each is the zoo.cfg key or property that it comes
    from."""

    data_dir: str = "data"  # dataDir
    data_log_dir: str = ""  # dataLogDir; empty: data_dir
    client_port: int = 2181  # clientPort; 0: any free port
    client_port_address: str = ""  # clientPortAddress; empty: all addresses
    client_port_listen_backlog: int = -1  # clientPortListenBacklog
    server_id: int = 0  # myid
    workers: int = 0  # --workers, zkstore.workers; 0: the cores available
    embedded: bool = False  # --embedded, zkstore.embedded

    tick_time_ms: int = 3000  # tickTime
    init_limit_ticks: int = 10  # initLimit
    sync_limit_ticks: int = 5  # syncLimit
    # server.N, group.N, weight.N: the text of the membership (zab/membership.py); empty: standalone
    members: str = ""
    connect_to_leader_limit_ticks: int = 0  # connectToLearnerMasterLimit; 0: initLimit
    leader_connect_delay_ms: int = 100  # leaderConnectDelayDuringRetryMs
    quorum_listen_on_all_ips: bool = False  # quorumListenOnAllIPs
    quorum_bind_retries: int = 3  # electionPortBindRetry; 0: for ever
    quorum_tcp_keep_alive: bool = False  # tcpKeepAlive
    election_connect_timeout_ms: int = 5000  # cnxTimeout
    election_greeting_timeout_ms: int = -1  # quorumCnxnTimeoutMs; -1: syncLimit
    # localSessionsEnabled, localSessionsUpgradingEnabled: of ensembles only
    local_sessions_enabled: bool = False
    local_sessions_upgrading_enabled: bool = False
    # zkstore.linearizableReads: every read waits for a round of the quorum that began behind it
    linearizable_reads: bool = False
    notification_interval_ms_min: int = 200  # fastleader.minNotificationInterval
    notification_interval_ms_max: int = 60_000  # fastleader.maxNotificationInterval
    min_session_timeout_ms: int = -1  # minSessionTimeout; -1: 2 ticks
    max_session_timeout_ms: int = -1  # maxSessionTimeout; -1: 20 ticks
    max_client_cnxns: int = 60  # maxClientCnxns: per address, 0: no limit
    max_cnxns: int = 0  # maxCnxns: in total, 0: no limit
    sessionless_timeout_ms: int = 10_000  # nio.sessionlessCnxnTimeout
    tcp_keep_alive: bool = False  # clientTcpKeepAlive

    frame_size_bytes_max: int = 0xFFFFF  # jute.maxbuffer
    global_outstanding_limit: int = 1000  # globalOutstandingLimit
    request_throttle_max_requests: int = 0  # request_throttle_max_requests; 0: no throttle
    request_throttle_stall_time_ms: int = 100  # request_throttle_stall_time
    request_throttle_drop_stale: bool = True  # request_throttle_drop_stale
    request_stale_connection_check: bool = True  # request_stale_connection_check
    request_stale_latency_check: bool = False  # request_stale_latency_check
    throttled_op_wait_time_ms: int = 0  # throttled_op_wait_time; 0: nothing is refused
    large_request_threshold: int = 0  # largeRequestThreshold, in bytes; 0: none is large
    large_request_bytes_max: int = 100 << 20  # largeRequestMaxBytes, of all that are not answered

    connection_throttle_tokens: int = 0  # connection_throttle_tokens; 0: no throttle
    connection_throttle_fill_time_ms: int = 1  # connection_throttle_fill_time
    connection_throttle_fill_count: int = 1  # connection_throttle_fill_count
    # connection_throttle_freeze_time; -1: nobody is turned away by chance
    connection_throttle_freeze_time_ms: int = -1
    connection_throttle_drop_increase: float = 0.02  # connection_throttle_drop_increase
    connection_throttle_drop_decrease: float = 0.002  # connection_throttle_drop_decrease
    connection_throttle_decrease_ratio: float = 0.0  # connection_throttle_decrease_ratio
    connection_throttle_weight_enabled: bool = False  # connection_throttle_weight_enabled
    connection_throttle_global_session_weight: int = 3  # connection_throttle_global_session_weight
    connection_throttle_local_session_weight: int = 1  # connection_throttle_local_session_weight
    connection_throttle_renew_session_weight: int = 2  # connection_throttle_renew_session_weight

    skip_acl: bool = False  # skipACL=yes
    super_digest: str = ""  # DigestAuthenticationProvider.superDigest
    digest_auth_enabled: bool = True  # DigestAuthenticationProvider.enabled
    digest_algorithm: str = "SHA1"  # DigestAuthenticationProvider.digestAlg
    # authProvider.N (a Python "module:Class" or a known Java name)
    auth_providers: tuple[str, ...] = ()
    enforce_auth_enabled: bool = False  # enforce.auth.enabled
    enforce_auth_schemes: tuple[str, ...] = ()  # enforce.auth.schemes
    ensemble_auth_names: tuple[str, ...] = ()  # ensembleAuthName

    # extendedTypesEnabled; None: alone, and while all members of an ensemble are ours
    extended_types_enabled: bool | None = None
    container_check_interval_ms: int = 60_000  # znode.container.checkIntervalMs
    container_per_minute_max: int = 10_000  # znode.container.maxPerMinute
    container_never_used_ms_max: int = 0  # znode.container.maxNeverUsedIntervalMs; 0: never
    enforce_quota: bool = False  # enforceQuota
    close_session_txn_enabled: bool = True  # closeSessionTxn.enabled

    auto_import: bool = False  # zkstore.autoImport: take Apache's data over where there is no other
    accept_damage: bool = False  # zkstore.acceptDamage: serve although data is known to be damaged
    force_sync: bool = True  # forceSync=no switches the journal's flush off
    fsync_warning_threshold_ms: int = 1000  # fsync.warningthresholdms
    log_retention_ms: int = 7 * 24 * 3600 * 1000  # zkstore.logRetentionMs
    log_retention_bytes: int = 1 << 30  # zkstore.logRetentionBytes
    map_size_bytes: int = 1 << 40  # zkstore.mapSizeBytes: of the sparse map, never resized
    # zkstore.diskReserveBytes: kept allocated past the last page
    disk_reserve_bytes: int = 256 << 20
    checkpoint_bytes: int = 48 << 20  # zkstore.checkpointBytes: of change between two checkpoints
    checkpoint_interval_ms: int = 5000  # zkstore.checkpointIntervalMs
    journal_segment_bytes: int = 16 << 20  # zkstore.journalSegmentBytes

    fourletter_whitelist: tuple[str, ...] = ("srvr",)  # 4lw.commands.whitelist; ("*",): all

    @property
    def session_timeout_ms_bounds(self) -> tuple[int, int]:
        """(least, greatest) session timeout that a client may negotiate."""
        least = self.min_session_timeout_ms
        greatest = self.max_session_timeout_ms
        return (
            least if least >= 0 else 2 * self.tick_time_ms,
            greatest if greatest >= 0 else 20 * self.tick_time_ms,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse of `to_json`; a key this version does not know is an error of ours."""
        given: dict[str, Any] = json.loads(text)
        known = {field.name for field in fields(cls)}
        assert set(given) <= known, sorted(set(given) - known)
        return cls().altered(given)

    def altered(self, given: Mapping[str, Any]) -> Settings:
        """With other values for some fields, as JSON and msgpack bring them: lists for tuples."""
        plain = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        return replace(self, **cast(Any, plain))
