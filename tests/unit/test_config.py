"""zoo.cfg, system properties and options become Settings and warnings, by Apache's rules."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from zkstore.errors import ConfigError
from zkstore.server import auth_providers, config, config_keys, properties, servers, values
from zkstore.server.config import Configuration, Source
from zkstore.settings import Settings
from zkstore.zab.membership import Membership

MINIMAL = "dataDir=/nowhere/zk\nclientPort=2181\n"

# All keys of ZooKeeper 3.9 and 3.10 with a value that asks for something unusual; a family of
# names is there with one of its members.
DIRECT_KEYS = """
dataDir=/d dataLogDir=/l clientPort=2182 clientPortAddress=127.0.0.1 secureClientPort=2281
secureClientPortAddress=127.0.0.1 observerMasterPort=2191 tickTime=2000 initLimit=5 syncLimit=2
connectToLearnerMasterLimit=5 minSessionTimeout=1000 maxSessionTimeout=60000 maxClientCnxns=10
clientPortListenBacklog=100 localSessionsEnabled=true localSessionsUpgradingEnabled=true
autopurge.snapRetainCount=5 autopurge.purgeInterval=24 electionAlg=3 peerType=participant
syncEnabled=false standaloneEnabled=true reconfigEnabled=true quorumListenOnAllIPs=true
server.1=a:2888:3888 group.1=1 weight.1=1 sslQuorum=true portUnification=true
sslQuorumReloadCertFiles=true quorum.auth.enableSasl=true quorum.auth.learnerRequireSasl=true
quorum.auth.serverRequireSasl=true quorum.auth.learner.saslLoginContext=x
quorum.auth.server.saslLoginContext=x quorum.auth.kerberos.servicePrincipal=x
quorum.cnxn.threads.size=10 metricsProvider.className=org.Prometheus metricsProvider.httpPort=7000
multiAddress.enabled=true multiAddress.reachabilityCheckTimeoutMs=5
multiAddress.reachabilityCheckEnabled=false oraclePath=/o jvm.pause.monitor=true
jvm.pause.sleep.time.ms=1 jvm.pause.warn-threshold.ms=1 jvm.pause.info-threshold.ms=1
""".split()
PROPERTIES = """
jute.maxbuffer=0x3fffff jute.maxbuffer.extrasize=1 globalOutstandingLimit=10 preAllocSize=1
snapCount=1 snapSizeLimitInKb=1 txnLogSizeLimitInKb=1 commitLogCount=1 snapshotSizeFactor=0.1
fsync.warningthresholdms=5 forceSync=no flushDelay=1 maxWriteQueuePollTime=1 maxBatchSize=1
maxCnxns=1 maxResponseCacheSize=1 maxGetChildrenResponseCacheSize=1 intBufferStartingSizeBytes=64
nio.numSelectorThreads=1 nio.numWorkerThreads=1 nio.directBufferBytes=1 nio.shutdownTimeout=1
nio.sessionlessCnxnTimeout=5 commitProcessor.numWorkerThreads=1 commitProcessor.maxReadBatchSize=1
commitProcessor.maxCommitBatchSize=2 commitProcessor.shutdownTimeout=1 serverCnxnFactory=x
netty.advancedFlowControl.enabled=true netty.server.outstandingHandshake.limit=1
netty.server.earlyDropSecureConnectionHandshakes=true client.portUnification=true
client.certReload=true clientTcpKeepAlive=true tcpKeepAlive=true connection_throttle_tokens=1
connection_throttle_fill_time=2 connection_throttle_fill_count=2 connection_throttle_freeze_time=1
connection_throttle_drop_increase=1 connection_throttle_drop_decrease=1
connection_throttle_decrease_ratio=1 connection_throttle_weight_enabled=true
connection_throttle_global_session_weight=1 connection_throttle_local_session_weight=2
connection_throttle_renew_session_weight=1 request_throttle_max_requests=1
request_throttle_stall_time=1 request_throttle_drop_stale=false request_stale_latency_check=true
request_stale_connection_check=false request_throttler.shutdownTimeout=1 throttled_op_wait_time=1
largeRequestMaxBytes=1000 largeRequestThreshold=5 enforceQuota=true enableEagerACLCheck=true
skipACL=yes extendedTypesEnabled=false emulate353TTLNodes=true znode.container.checkIntervalMs=5
znode.container.maxPerMinute=5 znode.container.maxNeverUsedIntervalMs=5
watchManagerName=org.apache.zookeeper.server.watch.WatchManagerOptimized watcherCleanThreadsNum=1
watcherCleanThreshold=1 watcherCleanIntervalInSeconds=1 maxInProcessingDeadWatchers=1
bitHashCacheSize=1 digest.enabled=false closeSessionTxn.enabled=false
serializeLastProcessedZxid.enabled=false snapshot.compression.method=gz snapshot.trust.empty=true
datadir.autocreate=true db.autocreate=false 4lw.commands.whitelist=ruok admin.enableServer=true
admin.serverAddress=x admin.serverPort=1 admin.idleTimeout=1 admin.commandURL=/ admin.httpVersion=1
admin.portUnification=true admin.forceHttps=true admin.needClientAuth=true
admin.rateLimiterIntervalInMS=1 admin.snapshot.enabled=false admin.restore.enabled=false
audit.enable=true audit.impl.class=x DigestAuthenticationProvider.enabled=false
DigestAuthenticationProvider.superDigest=super:x DigestAuthenticationProvider.digestAlg=SHA-256
X509AuthenticationProvider.superUser=x superUser=x superUser.1=x letAnySaslUserDoX=x
SASLAuthenticationProvider.superPassword=x IPAuthenticationProvider.usexforwardedfor=true
authProvider.1=pkg.mod:Provider ensembleAuthName=a,b sessionRequireClientSASLAuth=false
allowSaslFailedClients=true enforce.auth.enabled=true enforce.auth.schemes=digest,ip
sasl.serverconfig=x kerberos.removeHostFromPrincipal=true kerberos.removeRealmFromPrincipal=true
kerberos.canonicalizeHostNames=true kerberos.minReLoginTimeMs=1 security.auth_to_local=x
requireKerberosConfig=true server.realm=x ssl.keyStore.location=x ssl.quorum.keyStore.location=x
fips-mode=false ssl.authProvider=y leaderServes=no cnxTimeout=1 quorumCnxnTimeoutMs=1
electionPortBindRetry=0 fastleader.minNotificationInterval=1 fastleader.maxNotificationInterval=1
leader.maxConcurrentSnapSyncs=1 leader.maxConcurrentDiffSyncs=1 leader.maxTimeToWaitForEpoch=1
leader.ackLoggingFrequency=1 leader.closeSocketAsync=true learner.closeSocketAsync=true
learner.asyncSending=true leaderConnectDelayDuringRetryMs=1 leader.nodelay=false
follower.nodelay=false observer.reconnectDelayMs=1 observer.election.DelayMs=1
observer.syncEnabled=false observerMaster.sizeLimit=1 forceSnapshotSync=true
follower.skipLearnerRequestToNextProcessor=true messageTracker.Enabled=true
forward_learner_requests_to_commit_processor_disabled=true messageTracker.BufferSize=1
pathStats.enabled=true pathStats.slotCapacity=1 pathStats.slotDuration=1 pathStats.maxDepth=1
pathStats.sampleRate=1 pathStats.initialDelay=1 pathStats.delay=1 pathStats.topPathMax=1
readonlymode.enabled=true jmx.log4j.disable=false
""".split()
# Understood, and the value above asks for what zkstore does anyway.
SILENT = {"electionAlg", "peerType", "standaloneEnabled", "datadir.autocreate"}
SILENT |= {"sessionRequireClientSASLAuth", "authProvider.1", "autopurge.snapRetainCount"}


def read(text: str, *definitions: str) -> Configuration:
    lines = properties.parse(text, "zoo.cfg")
    return config.configure(Source("zoo.cfg", lines), definitions)


def wrong(text: str, *definitions: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, *definitions)
    return str(caught.value)


def test_a_usual_standalone_file_is_understood_in_silence() -> None:
    settings, warnings = read(
        """
# The number of milliseconds of each tick
tickTime=2000
initLimit=10
syncLimit=5
dataDir=/nowhere/zk
clientPort=2181
maxClientCnxns=0
autopurge.snapRetainCount=3
autopurge.purgeInterval=0
standaloneEnabled=true
reconfigEnabled=false
admin.enableServer=false
4lw.commands.whitelist=stat, ruok, conf
"""
    )
    assert warnings == []
    assert settings == Settings(
        data_dir="/nowhere/zk",
        tick_time_ms=2000,
        max_client_cnxns=0,
        fourletter_whitelist=("stat", "ruok", "conf", "srvr"),
    )


@pytest.mark.parametrize("line", DIRECT_KEYS + PROPERTIES)
def test_every_key_is_understood_or_named_in_a_warning(line: str) -> None:
    key, _, _ = line.partition("=")
    more = "enforce.auth.schemes=digest" if key == "enforce.auth.enabled" else ""
    settings, warnings = read(f"{MINIMAL}{line}\n{more}")
    said = [warning for warning in warnings if key in warning and "replaces" not in warning]
    assert not any("not a setting" in warning for warning in warnings)
    if key in config_keys.UNDERSTOOD:
        assert not said
        assert settings != read(MINIMAL).settings or key in ("tickTime", "clientPort")
    else:
        assert bool(said) == (key not in SILENT), warnings


@pytest.mark.parametrize("line", PROPERTIES)
def test_every_property_may_be_an_argument(line: str) -> None:
    key, _, _ = line.partition("=")
    more = ["zookeeper.enforce.auth.schemes=digest"] if key == "enforce.auth.enabled" else []
    as_key = read(f"{MINIMAL}{line}\n" + "\n".join(more).replace("zookeeper.", ""))
    as_argument = read(MINIMAL, f"zookeeper.{line}", *more)
    assert as_argument.settings == as_key.settings
    assert len(as_argument.warnings) == len(as_key.warnings)


@pytest.mark.parametrize("name", sorted(config_keys.FULL_NAMES | config_keys.BOTH_NAMES))
def test_a_full_name_works_in_all_spellings(name: str) -> None:
    value = next(line for line in PROPERTIES if line.startswith(f"{name}=")).partition("=")[2]
    settings = [
        read(f"{MINIMAL}{name}={value}").settings,
        read(f"{MINIMAL}zookeeper.{name}={value}").settings,
        read(MINIMAL, f"{name}={value}").settings,
        read(MINIMAL, f"zookeeper.{name}={value}").settings,
    ]
    assert settings == settings[:1] * 4


@pytest.mark.parametrize("manual, code", config_keys.MANUAL_NAMES.items())
def test_a_name_of_the_manual_means_the_name_of_the_code(manual: str, code: str) -> None:
    entry = config_keys.UNDERSTOOD.get(code)
    default = getattr(Settings(), entry.field) if entry else None
    value = str(not default).lower() if isinstance(default, bool) else "77"
    by_manual, by_code = read(f"{MINIMAL}{manual}={value}"), read(f"{MINIMAL}{code}={value}")
    assert by_manual.settings == by_code.settings
    if config_keys.no_effect(code) is not None:
        assert by_manual.warnings == [by_code.warnings[0].replace(code, manual)]
    else:
        assert by_manual.warnings == []
        assert by_manual.settings != read(MINIMAL).settings


def test_the_tables_do_not_contradict_each_other() -> None:
    tables = [set(config_keys.UNDERSTOOD), set(config_keys.HANDLED), set(config_keys.NO_EFFECT)]
    assert sum(map(len, tables)) == len(set().union(*tables))
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert {entry.field for entry in config_keys.UNDERSTOOD.values()} <= fields
    unreachable = fields - {entry.field for entry in config_keys.UNDERSTOOD.values()}
    assert unreachable == {"auth_providers", "members", "server_id"}
    for name, entry in config_keys.NO_EFFECT.items():
        assert all(value == value.lower() for value in entry.quiet), name


def test_own_keys() -> None:
    settings, warnings = read(
        f"{MINIMAL}zkstore.workers=3\nzkstore.embedded=True\n", "zkstore.logRetentionMs=0"
    )
    assert (settings.workers, settings.embedded, settings.log_retention_ms) == (3, True, 0)
    assert warnings == []


def test_an_unknown_key_is_warned_of_with_the_likely_one() -> None:
    _, warnings = read(f"{MINIMAL}tickTim=3\nx.y=1", "user.home=/", "zookeeper.tickTime=5")
    assert warnings == [
        "-Duser.home: ignored: user.home is not a system property of ZooKeeper",
        "-Dzookeeper.tickTime: ignored, as by Apache: tickTime is read from zoo.cfg only",
        "zoo.cfg:3: tickTim is not a setting of ZooKeeper (did you mean tickTime?)",
        "zoo.cfg:4: x.y is not a setting of ZooKeeper that zkstore knows",
    ]


def test_zoo_cfg_wins_over_an_argument_but_not_over_a_full_name() -> None:
    settings, warnings = read(
        f"{MINIMAL}maxCnxns=5\njute.maxbuffer=100", "zookeeper.maxCnxns=9", "jute.maxbuffer=200"
    )
    assert (settings.max_cnxns, settings.frame_size_bytes_max) == (5, 200)
    assert warnings == [
        "-Dzookeeper.maxCnxns: overridden by maxCnxns of zoo.cfg:3",
        "zoo.cfg:4: jute.maxbuffer is overridden by -Djute.maxbuffer",
    ]


def test_the_last_of_two_lines_counts() -> None:
    settings, warnings = read(f"{MINIMAL}tickTime=5\ntickTime=6")
    assert settings.tick_time_ms == 6
    assert warnings == ["zoo.cfg:4: tickTime replaces the value of zoo.cfg:3"]


@pytest.mark.parametrize(
    "line, message",
    [
        ("tickTime=0", "tickTime=0: expected a whole number of milliseconds from 1 to 2147483647"),
        ("tickTime=abc", "tickTime=abc: expected a whole number of milliseconds"),
        ("clientPort=65536", "clientPort=65536: expected a whole number from 0 to 65535"),
        ("syncEnabled=maybe", ""),
        ("localSessionsEnabled=maybe", "localSessionsEnabled=maybe: expected true or false"),
        ("clientTcpKeepAlive=1", "clientTcpKeepAlive=1: expected true or false"),
        ("skipACL=true", "skipACL=true: expected yes or no"),
        ("minSessionTimeout=99999999", "must not be larger than maxSessionTimeout (60000 ms)"),
        ("maxSessionTimeout=1", "minSessionTimeout (6000 ms) must not be larger"),
        ("clientPortAddress=a b", "expected a host name or an address"),
        (f"clientPortAddress={'x' * 64}.org", "expected a host name or an address"),
        ("electionAlg=1", "electionAlg=1: expected a whole number from 3 to 3"),
        ("peerType=boss", "peerType=boss: expected participant or observer"),
        ("standaloneEnabled=nope", "standaloneEnabled=nope: expected true or false"),
        ("standaloneEnabled=false", "standaloneEnabled=false needs a server line"),
        ("sessionRequireClientSASLAuth=true", "SASL comes with a later version"),
        ("enforce.auth.enabled=true", "enforce.auth.schemes must be set with it"),
        ("autopurge.purgeInterval=1w", "expected a whole number of hours, or one followed by"),
        ("DigestAuthenticationProvider.digestAlg=ROT13", "expected one of MD5, SHA, SHA1"),
        ("datadir.autocreate=false", "there is no data in /nowhere/zk yet"),
        ("server.x=a:1:2", "server.x=a:1:2: expected a number"),
        ("server.1=a", "server.1=a: expected host:port:electionPort[:role]"),
        ("server.1=a:1:2|b:1", "expected host:port:electionPort[:role]"),
        ("server.1=a:1:1", "expected a quorum port and another election port"),
        ("server.1=a:1:65536", "expected ports up to 65535"),
        ("server.1=a:1:2\ngroup.1=1:2:1", "server.1: expected each server in one group only"),
        ("server.1=a:1:2:captain", "expected participant or observer"),
        ("server.1=a:1:2:observer", "an observer needs participants"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(line: str, message: str) -> None:
    if not message:  # a key without effect is not looked at closely
        assert len(read(MINIMAL + line).warnings) == 1
        return
    said = wrong(f"{MINIMAL}{line}")
    assert message in said
    assert said.startswith("zoo.cfg:3: ") or line == "standaloneEnabled=false"


def test_what_a_file_must_have() -> None:
    assert wrong("clientPort=1") == "zoo.cfg: dataDir is missing; it is required"
    assert wrong("dataDir=\nclientPort=1") == "zoo.cfg:1: dataDir=: expected a path"
    assert "clientPort is not set" in wrong("dataDir=d\nclientPortAddress=::1")
    assert "no clientPort to serve" in wrong("dataDir=d\nsecureClientPort=2281")
    settings, warnings = read("dataDir=d")
    assert (settings.client_port, warnings) == (
        2181,
        ["zoo.cfg: clientPort is missing; 2181 is used"],
    )


def test_options_win_and_make_up_for_missing_keys() -> None:
    options = config.read_options(
        {"--data-dir": ("dataDir", "here"), "--workers": ("zkstore.workers", None)}
    )
    assert options == {"data_dir": "here"}
    source = Source("zoo.cfg", properties.parse("clientPort=5", "zoo.cfg"))
    assert config.configure(source, (), options).settings.data_dir == "here"
    assert config.configure(None, (), options).settings == Settings(data_dir="here")
    with pytest.raises(ConfigError, match="--client-port x: expected a whole number"):
        config.read_options({"--client-port": ("clientPort", "x")})


def test_a_single_server_line_is_no_ensemble() -> None:
    settings, warnings = read("dataDir=d\nserver.1=[::1]:2888:3888|b:1:2:participant;[::]:2199")
    assert (settings.client_port, settings.client_port_address) == (2199, "::")
    assert settings.members == ""
    assert len(warnings) == 1 and "the only server line server.1" in warnings[0]
    assert "says client port 2199" in wrong(f"{MINIMAL}server.1=a:1:2;2199")
    observed = wrong(f"{MINIMAL}server.1=a:1:2\nserver.2=b:1:2:observer")
    assert "an observer needs more than one participant" in observed


THREE = "server.1=a:1:2\nserver.2=b:1:2;2199\nserver.3=c:1:2:observer\nserver.4=d:1:2\n"
LIMITS = "initLimit=10\nsyncLimit=5\n"


def member(tmp_path: Path, text: str, *, myid: str = "2\n") -> Configuration:
    (tmp_path / "myid").write_text(myid)
    return read(f"dataDir={tmp_path}\n{text}")


def test_the_members_of_an_ensemble(tmp_path: Path) -> None:
    settings, warnings = member(tmp_path, THREE + LIMITS)
    membership = Membership.parse(settings.members)
    assert membership.voters == {1, 2, 4} and membership.observers == {3}
    assert settings.members.startswith("server.1=a:1:2:participant\nserver.2=b:1:2:participant;")
    assert (settings.server_id, settings.client_port, warnings) == (2, 2199, [])
    assert Settings.from_json(settings.to_json()) == settings
    grouped = f"{THREE}{LIMITS}group.1=1:2\ngroup.2=4\nweight.4=0\nclientPort=5"
    settings, warnings = member(tmp_path, grouped, myid="4")
    assert Membership.parse(settings.members).is_quorum([1, 2])
    assert (settings.server_id, settings.client_port, warnings) == (4, 5, [])


def test_a_quorum_of_one_is_an_ensemble_if_it_shall_be(tmp_path: Path) -> None:
    text = f"standaloneEnabled=false\nclientPort=5\nserver.2=b:1:2\n{LIMITS}"
    settings, warnings = member(tmp_path, text)
    assert (settings.members, warnings) == ("server.2=b:1:2:participant\nversion=0", [])


@pytest.mark.parametrize(
    "text, myid, message",
    [
        ("", "5", "myid:1: '5' is not the number of a server line; it must hold the number"),
        ("", "two", "myid:1: 'two' is not the number of a server line"),
        ("", "", "myid:1: '' is not the number of a server line"),
        ("syncLimit=0", "2", "zoo.cfg:6: syncLimit=0: expected at least 1 tick in an ensemble"),
        ("sslQuorum=true", "2", "sslQuorum=true: comes with a later version"),
        ("quorum.auth.enableSasl=true", "2", "comes with a later version"),
        ("group.1=1:2", "2", "zoo.cfg:2: server.1: expected a group for server 4"),
        ("weight.1=1", "2", "zoo.cfg:2: server.1: expected a group for server 1"),
        ("group.1=1:x", "2", "zoo.cfg:6: group.1=1:x: expected a number"),
        (
            "fastleader.minNotificationInterval=9\nfastleader.maxNotificationInterval=8",
            "2",
            "zoo.cfg:7: fastleader.maxNotificationInterval=8: expected at least fastleader.min",
        ),
        (
            "server.255=e:1:2;1\nextendedTypesEnabled=true",
            "255",
            "extendedTypesEnabled=true: expected an id up to 254 in myid with it",
        ),
    ],
)
def test_what_a_member_must_have(tmp_path: Path, text: str, myid: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        member(tmp_path, THREE + text, myid=myid)
    assert message in str(caught.value)


def test_a_member_without_its_number_is_told_what_to_do(tmp_path: Path) -> None:
    assert wrong(f"dataDir={tmp_path}\n{THREE}") == (
        f"{tmp_path}/myid: there is no such file; it must hold the number of this server's line"
        " server.N: 1, 2, 3, 4"
    )
    (tmp_path / "myid").mkdir()
    assert "Is a directory" in wrong(f"dataDir={tmp_path}\n{THREE}")


def test_what_a_member_is_warned_of(tmp_path: Path) -> None:
    two = "server.1=a:1:2\nserver.255=b:1:2;2199\npeerType=observer"
    settings, warnings = member(tmp_path, two, myid="255")
    assert not settings.extended_types_enabled
    assert warnings == [
        "zoo.cfg:2: initLimit is missing; 10 is used",
        "zoo.cfg:2: syncLimit is missing; 5 is used",
        "zoo.cfg:2: myid is above 254: no nodes with a TTL here",
        "zoo.cfg:4: peerType: what the server line says counts",
        "zoo.cfg:2: with 2 participants none may fail; 3 are the least that can lose one",
    ]
    _, warnings = member(tmp_path, f"{THREE}server.5=e:1:2\n{LIMITS}")
    assert warnings == ["zoo.cfg:2: 4 participants can lose no more of them than 3"]


def test_a_dynamic_file_is_read_for_its_servers(tmp_path: Path) -> None:
    dynamic = tmp_path / "zoo.cfg.dynamic"
    dynamic.write_text("server.1=a:1:2:participant;2182\n")
    line = f"dynamicConfigFile={dynamic}\n"
    assert read(f"dataDir=d\n{line}").settings.client_port == 2182
    assert "must be in the dynamicConfigFile" in wrong(f"{MINIMAL}{line}server.1=a:1:2")
    dynamic.write_text("server.1=a:1:2;2182\nserver.2=b:1:2;2183\nserver.4=b:1:2;2183\n")
    settings = member(tmp_path, line + LIMITS).settings
    assert Membership.parse(settings.members).voters == {1, 2, 4}
    assert settings.client_port == 2183
    dynamic.write_text("tickTime=5")
    assert "has server lines only" in wrong(MINIMAL + line)
    dynamic.unlink()
    assert wrong(MINIMAL + line) == f"{dynamic}: No such file or directory"


def test_the_id_of_the_server(tmp_path: Path) -> None:
    text = f"dataDir={tmp_path}\nclientPort=1\n"
    assert read(text).settings.server_id == 0
    (tmp_path / "myid").write_text("7\nnotes\n")
    assert read(text).settings.server_id == 7
    (tmp_path / "myid").write_text("replace this text with the id of the server")
    settings, warnings = read(text)
    assert settings.server_id == 0
    assert warnings[0].startswith(f"{tmp_path}/myid:1: not used: expected a whole number")


def test_autopurge_becomes_the_age_of_the_log() -> None:
    settings, warnings = read(f"{MINIMAL}autopurge.purgeInterval=24\nautopurge.snapRetainCount=2")
    assert settings.log_retention_ms == 3 * 24 * 3_600_000
    assert "snapRetainCount is below the least value, 3 is used" in warnings[0]
    assert "= 72 h" in warnings[1]
    ours = read(f"{MINIMAL}autopurge.purgeInterval=90m\nzkstore.logRetentionMs=5")
    assert (ours.settings.log_retention_ms, ours.warnings) == (5, [])
    never = read(f"{MINIMAL}autopurge.purgeInterval=-1\nautopurge.snapRetainCount=-1")
    assert never.settings.log_retention_ms == Settings().log_retention_ms


def test_the_whitelist() -> None:
    def words(text: str) -> tuple[str, ...]:
        return read(MINIMAL + text).settings.fourletter_whitelist

    assert words("") == ("srvr",)
    assert words("4lw.commands.whitelist=ruok,,srvr") == ("ruok", "srvr")
    assert words("4lw.commands.whitelist=ruok, *") == ("*",)
    assert words("readonlymode.enabled=true") == ("isro", "srvr")


def test_auth_providers_keep_their_order_and_name_what_is_missing() -> None:
    java = "org.apache.zookeeper.server.auth."
    settings, warnings = read(
        f"{MINIMAL}authProvider.2=my.auth:Provider\nauthProvider.3=com.example.Mine\n"
        f"authProvider.1={java}EnsembleAuthenticationProvider\n"
        f"authProvider.sasl={java}SASLAuthenticationProvider\n"
        f"authProvider.4={java}DigestAuthenticationProvider\n"
    )
    assert settings.auth_providers == ("EnsembleAuthenticationProvider", "my.auth:Provider")
    assert len(warnings) == 2
    assert 'name a Python class as "module:Class"' in warnings[0]
    assert "SASL and Kerberos come with a later version" in warnings[1]
    assert auth_providers.translate("x509")[0] is None


def test_apaches_positional_arguments() -> None:
    source = config.apache_arguments(["2185", "/data", "100", "5"])
    settings, warnings = config.configure(source)
    assert warnings == []
    assert settings == Settings(
        client_port=2185, data_dir="/data", tick_time_ms=100, max_client_cnxns=5
    )
    with pytest.raises(ConfigError, match="argument 1: clientPort=port: expected a whole"):
        config.configure(config.apache_arguments(["port", "/data"]))
    with pytest.raises(ConfigError, match="expected a configuration file, or: port dataDir"):
        config.apache_arguments(["1", "2", "3", "4", "5"])


def test_warnings_keep_passwords_to_themselves() -> None:
    _, warnings = read(
        f"{MINIMAL}ssl.keyStore.password=secret\nSASLAuthenticationProvider.superPassword=secret\n"
        "DigestAuthenticationProvider.superDigest=super:secret\nsecret.key=secret2"
    )
    assert len(warnings) == 3
    assert not any("=secret" in warning or "secret2" in warning for warning in warnings)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a=b", [("a", "b", 1)]),
        ("  a : b ", [("a", "b", 1)]),
        ("a b=c", [("a", "b=c", 1)]),
        ("a\t=\fb", [("a", "b", 1)]),
        ("a==b", [("a", "=b", 1)]),
        ("a", [("a", "", 1)]),
        ("# a=b\n! c=d\n\n \t\n e=f", [("e", "f", 5)]),
        ("a=b\\\n   c\\\n#d\ne=f", [("a", "bc#d", 1), ("e", "f", 4)]),
        ("a=b\\\\\nc=d", [("a", "b\\", 1), ("c", "d", 2)]),
        ("a=b\\", [("a", "b", 1)]),
        ("a\\=\\:\\ b=c", [("a=: b", "c", 1)]),
        ("a=\\u0041\\t\\q\\\\n", [("a", "A\tq\\n", 1)]),
        ("a=1\r\nb=2\rc=3", [("a", "1", 1), ("b", "2", 2), ("c", "3", 3)]),
        ("#a\\\nb=c", [("b", "c", 2)]),
        ("=b", [("", "b", 1)]),
    ],
)
def test_the_syntax_is_that_of_javas_properties(
    text: str, expected: list[tuple[str, str, int]]
) -> None:
    assert properties.parse(text, "f") == [(k, v, f"f:{line}") for k, v, line in expected]


def test_bytes_that_are_not_utf_8_are_latin_1_as_in_java() -> None:
    assert properties.decode("dataDir=/dätä".encode()) == "dataDir=/dätä"
    assert properties.decode("dataDir=/dätä".encode("latin-1")) == "dataDir=/dätä"
    with pytest.raises(ConfigError, match=r"f:2: \\u must be followed by four hexadecimal digits"):
        properties.parse("\na=\\u12", "f")


def test_numbers_as_java_decodes_them() -> None:
    read_number = values.integer(-20, 0x7FFFFFFF)
    assert [read_number(text) for text in ("+7", "-0x10", "#ff", "010")] == [7, -16, 255, 10]
    for text in ("", "-", "0x", "1_000", "1e3", " 1", "ff", "-21", "2147483648"):
        with pytest.raises(ValueError, match="a whole number from -20 to 2147483647"):
            read_number(text)


def test_an_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        config.read_file(tmp_path)
    assert servers.is_member_line("server.1") and not servers.is_member_line("server.realm")
