"""Every key of Apache ZooKeeper's configuration, and what it means to zkstore: a table to look up.

Owns:   the spelling of zoo.cfg's keys and of the Java system properties.
Invariants:
  1. A key of Apache ZooKeeper 3.9 or 3.10 is in exactly one of UNDERSTOOD, HANDLED and NO_EFFECT,
     or begins with a prefix of NO_EFFECT_FAMILIES; test_config.py goes through all of them.
  2. A reason of NO_EFFECT ends the sentence "KEY has no effect in this version: ...".
Design: names stand without the prefix `zookeeper.`. Apache makes a system property of each key of
  zoo.cfg that it does not know, so nearly every property may be written as a key.
Not here: how the values are combined and checked against each other (config.py).
Source: QuorumPeerConfig.parseProperties and the administrator's guide of ZooKeeper 3.9.
"""

from __future__ import annotations

import difflib
from typing import Final, NamedTuple

from zkstore.constants import FRAME_BYTES_MAX
from zkstore.server import values
from zkstore.server.values import INT64_MAX, boolean, integer, yes_no


class Understood(NamedTuple):
    """A key that sets one field of Settings."""

    field: str
    read: values.Reader
    direct: bool = False  # a key of zoo.cfg that Apache never reads as a system property


UNDERSTOOD: Final[dict[str, Understood]] = {
    "dataDir": Understood("data_dir", values.path, True),
    "dataLogDir": Understood("data_log_dir", values.path, True),
    "clientPort": Understood("client_port", integer(0, 65535), True),
    "clientPortAddress": Understood("client_port_address", values.host, True),
    "clientPortListenBacklog": Understood("client_port_listen_backlog", integer(-1), True),
    "tickTime": Understood("tick_time_ms", integer(1, unit="milliseconds"), True),
    "initLimit": Understood("init_limit_ticks", integer(0, unit="ticks"), True),
    "syncLimit": Understood("sync_limit_ticks", integer(0, unit="ticks"), True),
    "connectToLearnerMasterLimit": Understood(
        "connect_to_leader_limit_ticks", integer(0, unit="ticks"), True
    ),
    "quorumListenOnAllIPs": Understood("quorum_listen_on_all_ips", boolean, True),
    "cnxTimeout": Understood("election_connect_timeout_ms", integer(1, unit="milliseconds")),
    "quorumCnxnTimeoutMs": Understood(
        "election_greeting_timeout_ms", integer(-1, unit="milliseconds")
    ),
    "electionPortBindRetry": Understood("quorum_bind_retries", integer(0)),
    "fastleader.minNotificationInterval": Understood(
        "notification_interval_ms_min", integer(1, unit="milliseconds")
    ),
    "fastleader.maxNotificationInterval": Understood(
        "notification_interval_ms_max", integer(1, unit="milliseconds")
    ),
    "leaderConnectDelayDuringRetryMs": Understood(
        "leader_connect_delay_ms", integer(0, unit="milliseconds")
    ),
    "tcpKeepAlive": Understood("quorum_tcp_keep_alive", boolean),
    "localSessionsEnabled": Understood("local_sessions_enabled", boolean, True),
    "localSessionsUpgradingEnabled": Understood("local_sessions_upgrading_enabled", boolean, True),
    "minSessionTimeout": Understood("min_session_timeout_ms", integer(-1), True),
    "maxSessionTimeout": Understood("max_session_timeout_ms", integer(-1), True),
    "maxClientCnxns": Understood("max_client_cnxns", values.limit, True),
    "maxCnxns": Understood("max_cnxns", values.limit),
    "nio.sessionlessCnxnTimeout": Understood("sessionless_timeout_ms", integer(1)),
    "clientTcpKeepAlive": Understood("tcp_keep_alive", boolean),
    "jute.maxbuffer": Understood("frame_size_bytes_max", integer(1, FRAME_BYTES_MAX)),
    "globalOutstandingLimit": Understood("global_outstanding_limit", integer(1)),
    "request_throttle_max_requests": Understood("request_throttle_max_requests", values.limit),
    "request_throttle_stall_time": Understood("request_throttle_stall_time_ms", integer(1)),
    "request_throttle_drop_stale": Understood("request_throttle_drop_stale", boolean),
    "request_stale_connection_check": Understood("request_stale_connection_check", boolean),
    "request_stale_latency_check": Understood("request_stale_latency_check", boolean),
    "throttled_op_wait_time": Understood("throttled_op_wait_time_ms", values.limit),
    "largeRequestThreshold": Understood("large_request_threshold", values.limit),
    "largeRequestMaxBytes": Understood("large_request_bytes_max", integer(1)),
    "connection_throttle_tokens": Understood("connection_throttle_tokens", values.limit),
    "connection_throttle_fill_time": Understood("connection_throttle_fill_time_ms", integer(1)),
    "connection_throttle_fill_count": Understood("connection_throttle_fill_count", integer(0)),
    "connection_throttle_freeze_time": Understood(
        "connection_throttle_freeze_time_ms", integer(-1)
    ),
    "connection_throttle_drop_increase": Understood(
        "connection_throttle_drop_increase", values.real(0)
    ),
    "connection_throttle_drop_decrease": Understood(
        "connection_throttle_drop_decrease", values.real(0)
    ),
    "connection_throttle_decrease_ratio": Understood(
        "connection_throttle_decrease_ratio", values.real(0)
    ),
    "connection_throttle_weight_enabled": Understood("connection_throttle_weight_enabled", boolean),
    "connection_throttle_global_session_weight": Understood(
        "connection_throttle_global_session_weight", integer(1)
    ),
    "connection_throttle_local_session_weight": Understood(
        "connection_throttle_local_session_weight", integer(1)
    ),
    "connection_throttle_renew_session_weight": Understood(
        "connection_throttle_renew_session_weight", integer(1)
    ),
    "skipACL": Understood("skip_acl", yes_no),
    "DigestAuthenticationProvider.superDigest": Understood("super_digest", values.text),
    "DigestAuthenticationProvider.enabled": Understood("digest_auth_enabled", boolean),
    "DigestAuthenticationProvider.digestAlg": Understood(
        "digest_algorithm", values.digest_algorithm
    ),
    "enforce.auth.enabled": Understood("enforce_auth_enabled", boolean),
    "enforce.auth.schemes": Understood("enforce_auth_schemes", values.names),
    "ensembleAuthName": Understood("ensemble_auth_names", values.names),
    "extendedTypesEnabled": Understood("extended_types_enabled", boolean),
    "znode.container.checkIntervalMs": Understood("container_check_interval_ms", integer(1)),
    "znode.container.maxPerMinute": Understood("container_per_minute_max", integer(1)),
    "znode.container.maxNeverUsedIntervalMs": Understood("container_never_used_ms_max", integer(0)),
    "enforceQuota": Understood("enforce_quota", boolean),
    "closeSessionTxn.enabled": Understood("close_session_txn_enabled", boolean),
    "forceSync": Understood("force_sync", yes_no),
    "fsync.warningthresholdms": Understood("fsync_warning_threshold_ms", integer(0)),
    "4lw.commands.whitelist": Understood("fourletter_whitelist", values.names),
    "zkstore.workers": Understood("workers", integer(0, 256)),
    "zkstore.embedded": Understood("embedded", boolean),
    "zkstore.linearizableReads": Understood("linearizable_reads", boolean),
    "zkstore.logRetentionMs": Understood("log_retention_ms", integer(0, INT64_MAX)),
    "zkstore.logRetentionBytes": Understood("log_retention_bytes", integer(0, INT64_MAX)),
    "zkstore.autoImport": Understood("auto_import", boolean),
    "zkstore.acceptDamage": Understood("accept_damage", boolean),
    "zkstore.mapSizeBytes": Understood("map_size_bytes", integer(1 << 20, 1 << 46)),
    "zkstore.diskReserveBytes": Understood("disk_reserve_bytes", integer(0, 1 << 46)),
    "zkstore.checkpointBytes": Understood("checkpoint_bytes", integer(1 << 20, 1 << 40)),
    "zkstore.checkpointIntervalMs": Understood("checkpoint_interval_ms", integer(1)),
    "zkstore.journalSegmentBytes": Understood("journal_segment_bytes", integer(1 << 20, 1 << 32)),
}

# Keys that take more than one field or a look at other keys; config.py has a function for each.
HANDLED: Final = frozenset(
    {
        "autopurge.purgeInterval",
        "autopurge.snapRetainCount",
        "datadir.autocreate",
        "dynamicConfigFile",
        "electionAlg",
        "peerType",
        "readonlymode.enabled",
        "secureClientPort",
        "sessionRequireClientSASLAuth",
        "standaloneEnabled",
    }
)
HANDLED_FAMILIES: Final = ("authProvider.", "group.", "server.", "weight.")

# Properties whose name is complete without `zookeeper.`. Apache reads them from the JVM's arguments
# alone: as keys of zoo.cfg they would become zookeeper.<key>, which nobody asks for.
FULL_NAMES: Final = frozenset(
    {
        "follower.nodelay",
        "jute.maxbuffer",
        "jute.maxbuffer.extrasize",
        "leader.nodelay",
        "readonlymode.enabled",
        "znode.container.checkIntervalMs",
        "znode.container.maxNeverUsedIntervalMs",
        "znode.container.maxPerMinute",
    }
)
# Apache knows these in both forms.
BOTH_NAMES: Final = frozenset(
    {"fsync.warningthresholdms", "learner.asyncSending", "learner.closeSocketAsync"}
)

# The names of the administrator's guide that Apache's code does not know, and what the code reads.
MANUAL_NAMES: Final = {
    "advancedFlowControlEnabled": "netty.advancedFlowControl.enabled",
    "connectionDecreaseRatio": "connection_throttle_decrease_ratio",
    "connectionDropDecrease": "connection_throttle_drop_decrease",
    "connectionDropIncrease": "connection_throttle_drop_increase",
    "connectionFreezeTime": "connection_throttle_freeze_time",
    "connectionMaxTokens": "connection_throttle_tokens",
    "connectionTokenFillCount": "connection_throttle_fill_count",
    "connectionTokenFillTime": "connection_throttle_fill_time",
    "maxConcurrentDiffSyncs": "leader.maxConcurrentDiffSyncs",
    "maxConcurrentSnapSyncs": "leader.maxConcurrentSnapSyncs",
    "maxTimeToWaitForEpoch": "leader.maxTimeToWaitForEpoch",
    "outstandingHandshake.limit": "netty.server.outstandingHandshake.limit",
    "requestStaleConnectionCheck": "request_stale_connection_check",
    "requestStaleLatencyCheck": "request_stale_latency_check",
    "requestThrottleDropStale": "request_throttle_drop_stale",
    "requestThrottleLimit": "request_throttle_max_requests",
    "requestThrottleStallTime": "request_throttle_stall_time",
    "throttledOpWaitTime": "throttled_op_wait_time",
}


class NoEffect(NamedTuple):
    """A key that changes nothing, and the lower-case values that ask for nothing else."""

    reason: str
    quiet: tuple[str, ...] = ()


_MEMBERS: Final = "the members of an ensemble are those of the configuration file"
_LEADER: Final = "whoever is elected serves clients too, and brings all learners up to date at once"
_OBSERVER: Final = "observers join at once, follow the leader itself and write to disk"
_SOCKETS: Final = "no socket is waited for, and small packets leave at once"
_ADDRESSES: Final = "all addresses of a server line are used, each in its turn"
_TLS: Final = "TLS comes with a later version"
_SASL: Final = "SASL and Kerberos come with a later version"
_ADMIN: Final = "there is no HTTP admin server; the four-letter words answer on the client port"
_JVM: Final = "it tunes Apache's threads and buffers; here --workers sets the serving processes"
_SNAPSHOT: Final = "there are no snapshots; see zkstore.checkpointBytes"
_TXNLOG: Final = "the log is kept in the database; see zkstore.logRetentionBytes"
_GROUP_COMMIT: Final = "what arrives during one flush is always committed with the next"
_CACHE: Final = "reads are copied straight out of the memory map, without a cache of replies"
_WATCHES: Final = "watches are kept by the worker of their connection, in one kind of table"
_METRICS: Final = "metrics are given by the four-letter word mntr"
_PAUSE: Final = "there is no JVM whose pauses could be watched"

NO_EFFECT: Final[dict[str, NoEffect]] = {
    # Keys of zoo.cfg
    "emulate353TTLNodes": NoEffect("only data written by ZooKeeper 3.5.3 needs it", ("false",)),
    "secureClientPortAddress": NoEffect(_TLS),
    "observerMasterPort": NoEffect(_OBSERVER, ("0",)),
    "syncEnabled": NoEffect(_OBSERVER, ("true",)),
    "reconfigEnabled": NoEffect(_MEMBERS, ("false",)),
    "sslQuorum": NoEffect(_TLS, ("false",)),
    "sslQuorumReloadCertFiles": NoEffect(_TLS, ("false",)),
    "portUnification": NoEffect(_TLS, ("false",)),
    "quorum.auth.enableSasl": NoEffect(_SASL, ("false",)),
    "quorum.auth.learnerRequireSasl": NoEffect(_SASL, ("false",)),
    "quorum.auth.serverRequireSasl": NoEffect(_SASL, ("false",)),
    "quorum.cnxn.threads.size": NoEffect(_JVM),
    "metricsProvider.className": NoEffect(
        _METRICS,
        (
            "org.apache.zookeeper.metrics.impl.defaultmetricsprovider",
            "org.apache.zookeeper.metrics.impl.nullmetricsprovider",
        ),
    ),
    "multiAddress.enabled": NoEffect(_ADDRESSES, ("false",)),
    "multiAddress.reachabilityCheckEnabled": NoEffect(_ADDRESSES, ("true",)),
    "multiAddress.reachabilityCheckTimeoutMs": NoEffect(_ADDRESSES, ("1000",)),
    "oraclePath": NoEffect("two members need each other: there is no oracle"),
    "jvm.pause.monitor": NoEffect(_PAUSE, ("false",)),
    "jvm.pause.sleep.time.ms": NoEffect(_PAUSE),
    "jvm.pause.warn-threshold.ms": NoEffect(_PAUSE),
    "jvm.pause.info-threshold.ms": NoEffect(_PAUSE),
    # Frames, log and snapshots
    "jute.maxbuffer.extrasize": NoEffect("a stored transaction may be larger than any frame"),
    "preAllocSize": NoEffect("the journal is preallocated by zkstore.journalSegmentBytes"),
    "snapCount": NoEffect(_SNAPSHOT),
    "snapSizeLimitInKb": NoEffect(_SNAPSHOT),
    "snapshot.compression.method": NoEffect(_SNAPSHOT, ("",)),
    "snapshot.trust.empty": NoEffect(_SNAPSHOT, ("false",)),
    "snapshotSizeFactor": NoEffect("a learner far behind gets what is less to send", ("0.33",)),
    "serializeLastProcessedZxid.enabled": NoEffect(_SNAPSHOT, ("true",)),
    "txnLogSizeLimitInKb": NoEffect(_TXNLOG, ("-1",)),
    "commitLogCount": NoEffect(_TXNLOG),
    "flushDelay": NoEffect(_GROUP_COMMIT, ("0",)),
    "maxWriteQueuePollTime": NoEffect(_GROUP_COMMIT),
    "maxBatchSize": NoEffect(_GROUP_COMMIT),
    "db.autocreate": NoEffect("a member may begin with an empty directory", ("true",)),
    "digest.enabled": NoEffect("the digest of the tree is always kept", ("true",)),
    # Threads, buffers and caches
    "maxResponseCacheSize": NoEffect(_CACHE),
    "maxGetChildrenResponseCacheSize": NoEffect(_CACHE),
    "intBufferStartingSizeBytes": NoEffect(_JVM),
    "nio.numSelectorThreads": NoEffect(_JVM),
    "nio.numWorkerThreads": NoEffect(_JVM),
    "nio.directBufferBytes": NoEffect(_JVM),
    "nio.shutdownTimeout": NoEffect(_JVM),
    "request_throttler.shutdownTimeout": NoEffect(_JVM),
    "serverCnxnFactory": NoEffect(
        _JVM,
        (
            "org.apache.zookeeper.server.nioservercnxnfactory",
            "org.apache.zookeeper.server.nettyservercnxnfactory",
        ),
    ),
    "client.portUnification": NoEffect(_TLS, ("false",)),
    "client.certReload": NoEffect(_TLS, ("false",)),
    "fips-mode": NoEffect(_TLS, ("true",)),
    "enableEagerACLCheck": NoEffect("the leader checks ACLs", ("false",)),
    # Watches
    "watchManagerName": NoEffect(_WATCHES, ("org.apache.zookeeper.server.watch.watchmanager",)),
    "watcherCleanThreadsNum": NoEffect(_WATCHES),
    "watcherCleanThreshold": NoEffect(_WATCHES),
    "watcherCleanIntervalInSeconds": NoEffect(_WATCHES),
    "maxInProcessingDeadWatchers": NoEffect(_WATCHES, ("-1",)),
    "bitHashCacheSize": NoEffect(_WATCHES),
    # Administration
    "admin.enableServer": NoEffect(_ADMIN, ("false",)),
    "audit.enable": NoEffect("there is no audit log yet", ("false",)),
    "audit.impl.class": NoEffect("there is no audit log yet"),
    "messageTracker.Enabled": NoEffect("packets between members are not kept", ("false",)),
    "messageTracker.BufferSize": NoEffect("packets between members are not kept"),
    "pathStats.enabled": NoEffect("there are no statistics by path yet", ("false",)),
    "jmx.log4j.disable": NoEffect("there is no JMX here", ("true",)),
    # Authentication
    "IPAuthenticationProvider.usexforwardedfor": NoEffect(_ADMIN, ("false",)),
    "X509AuthenticationProvider.superUser": NoEffect(_TLS),
    "SASLAuthenticationProvider.superPassword": NoEffect(_SASL),
    "superUser": NoEffect(_SASL),
    "letAnySaslUserDoX": NoEffect(_SASL),
    "allowSaslFailedClients": NoEffect(_SASL, ("false",)),
    "requireKerberosConfig": NoEffect(_SASL, ("false",)),
    "server.realm": NoEffect(_SASL),
    "server.principal": NoEffect(_SASL),
    # Ensembles
    "leaderServes": NoEffect(_LEADER, ("yes",)),
    "learner.closeSocketAsync": NoEffect(_SOCKETS, ("false",)),
    "learner.asyncSending": NoEffect(_SOCKETS, ("false",)),
    "leader.nodelay": NoEffect(_SOCKETS, ("true",)),
    "leader.closeSocketAsync": NoEffect(_SOCKETS, ("false",)),
    "follower.nodelay": NoEffect(_SOCKETS, ("true",)),
    "follower.skipLearnerRequestToNextProcessor": NoEffect(_JVM, ("false",)),
    "forward_learner_requests_to_commit_processor_disabled": NoEffect(_JVM, ("false",)),
    "forceSnapshotSync": NoEffect("a learner far behind gets what is less to send", ("false",)),
}

NO_EFFECT_FAMILIES: Final = (
    ("ssl.", _TLS),
    ("netty.", _TLS),
    ("sasl.", _SASL),
    ("kerberos.", _SASL),
    ("security.", _SASL),
    ("superUser.", _SASL),
    ("quorum.auth.", _SASL),
    ("leader.", _LEADER),
    ("observer.", _OBSERVER),
    ("observerMaster.", _OBSERVER),
    ("admin.", _ADMIN),
    ("metricsProvider.", _METRICS),
    ("pathStats.", "there are no statistics by path yet"),
    ("commitProcessor.", _JVM),
)


def no_effect(name: str) -> NoEffect | None:
    """What the table says of a key that changes nothing here; None if it is not such a key."""
    entry = NO_EFFECT.get(name)
    if entry is not None:
        return entry
    for prefix, reason in NO_EFFECT_FAMILIES:
        if name.startswith(prefix):
            return NoEffect(reason)
    return None


def similar(name: str) -> str:
    """The end of the sentence "X is not a setting of ZooKeeper"."""
    known = [*UNDERSTOOD, *HANDLED, *NO_EFFECT]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f" (did you mean {close[0]}?)" if close else " that zkstore knows"


def is_property(name: str) -> bool:
    """Whether a system property of this full name may be a setting; the others are Java's own."""
    return name.startswith(("zookeeper.", "zkstore.")) or name in FULL_NAMES | BOTH_NAMES


def is_direct(name: str) -> bool:
    """Whether Apache reads the key from zoo.cfg only, never as a system property."""
    entry = UNDERSTOOD.get(name)
    if entry is not None:
        return entry.direct
    if name in NO_EFFECT:
        return False
    return name in _DIRECT_HANDLED or name.startswith(
        ("autopurge.", "group.", "server.", "weight.")
    )


_DIRECT_HANDLED: Final = frozenset(
    {"dynamicConfigFile", "electionAlg", "peerType", "secureClientPort", "standaloneEnabled"}
)
