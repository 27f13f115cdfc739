"""Section K: quotas: the usage that the server keeps, limits that it enforces, text that it has
to live with.

Source: reference parity K; StatsTrack, DataTree.updateQuotaStat, ZooKeeperServer.checkQuota.
"""

from __future__ import annotations

from tests.conformance import requests as r
from tests.conformance.scenario import Client, Scenario, on_server
from tests.conformance.scenarios.n_words import mntr_values

_QUOTA = "/zookeeper/quota/t"
_LIMITS = f"{_QUOTA}/zookeeper_limits"
_STATS = f"{_QUOTA}/zookeeper_stats"


def _limited(s: Scenario, limits: bytes) -> Client:
    """A client, and a quota for /t, which has a child."""
    client = s.client()
    client.pipeline(r.create("/t", b"12345"), r.create("/t/b"), r.create(_QUOTA))
    client.pipeline(r.create(_LIMITS, limits), r.create(_STATS))
    return client


@on_server(fresh=True)
def usage(s: Scenario) -> None:
    client = _limited(s, b"count=3,bytes=20")
    client.call(r.get_data(_STATS, True))
    for request in (
        r.create("/t/c", b"1234567890"),
        r.create("/t/s", b"1", flags=r.SEQUENTIAL),
        r.create("/t/e", b"12", flags=r.EPHEMERAL),
        r.set_data("/t/c", b"1"),
        r.set_data("/t/c", None),
        r.set_data("/t/c", b"", version=77),
        r.delete("/t/c"),
        r.multi(r.create("/t/m", b"123"), r.delete("/t/b"), r.set_data("/t", b"1")),
        r.multi(r.create("/t/n", b"123"), r.delete("/t/missing")),
        r.create("/elsewhere"),
    ):
        client.call(request)
        client.call(r.get_data(_STATS))
    client.events()
    s.section("the ephemeral goes with its session")
    client.call(r.close_session())
    client.expect_close()
    other = s.client()
    other.call(r.get_data(_STATS))
    other.call(r.delete("/elsewhere"))


@on_server(fresh=True)
def which_quota_counts(s: Scenario) -> None:
    client = _limited(s, b"count=3,bytes=20")
    inner = "/zookeeper/quota/t/b"
    client.pipeline(r.create(inner), r.create(f"{inner}/zookeeper_limits", b"count=1,bytes=-1"))
    client.call(r.create(f"{inner}/zookeeper_stats", b"count=7,bytes=7"))
    client.call(r.create("/t/b/c", b"123"))
    for path in (_STATS, f"{inner}/zookeeper_stats"):
        client.call(r.get_data(path))
    s.section("limits gone, usage gone, both again")
    client.call(r.delete(_LIMITS))
    client.pipeline(r.create("/t/d", b"1"), r.get_data(_STATS))
    client.pipeline(r.create(_LIMITS, b"count=3,bytes=20"), r.delete(_STATS))
    client.pipeline(r.create("/t/e", b"1"), r.create(_STATS, b"text"), r.get_data(_STATS))
    s.section("of a path that is not there yet")
    other = "/zookeeper/quota/later"
    client.pipeline(r.create(other), r.create(f"{other}/zookeeper_limits", b"count=1,bytes=1"))
    client.pipeline(r.create(f"{other}/zookeeper_stats"), r.get_data(f"{other}/zookeeper_stats"))
    client.pipeline(r.create("/later", b"abc"), r.get_data(f"{other}/zookeeper_stats"))
    s.section("usage that a client writes")
    client.call(r.set_data(_STATS, b"count=10,bytes=7=;other=5"))
    client.pipeline(r.create("/t/f", b"12"), r.get_data(_STATS))
    client.call(r.delete("/later"))


@on_server(settings={"enforceQuota": "true"})
def limits(s: Scenario) -> None:
    client = _limited(s, b"count=3,bytes=20=;byteHardLimit=30;countHardLimit=4")
    client.call(r.create("/t/c", b"1234567890"))
    client.call(r.create("/t/d", b"1"))
    client.call(r.create("/t/e", b"1"))
    client.call(r.create("/t/d", b"1"))
    client.call(r.set_data("/t/c", b"1" * 25))
    client.call(r.set_data("/t/c", b"1" * 25, version=77))
    client.call(r.set_data("/t/c", b"1" * 20))
    client.call(r.get_data(_STATS))
    client.call(r.multi(r.set_data("/t/c", b""), r.create("/t/e")))
    client.call(r.delete("/t/d"))
    client.call(r.create("/t/e", flags=r.EPHEMERAL))
    client.call(r.multi(r.delete("/t/e"), r.create("/t/f")))
    values = mntr_values(s.socket())
    for name, value in sorted(values.items()):
        if "quota" in name:
            s.note(f"{name} {value}")


@on_server(settings={"enforceQuota": "true"})
def limits_not_understood(s: Scenario) -> None:
    client = _limited(s, b"")
    for text in (
        b"",
        b"garbage",
        b"count=x",
        b"count=-5",
        b"count=99999999999999999999",
        b"count=,bytes=",
        b"count=1",
        b"bytes=-1=;byteHardLimit=-1;countHardLimit=2",
        b"count=3=;countHardLimit=1",
        b"countHardLimit=0",
    ):
        s.section(text.decode())
        client.call(r.set_data(_LIMITS, text))
        client.call(r.create("/t/x", b"1"))
        client.call(r.delete("/t/x"))


@on_server(fresh=True)
def not_enforced(s: Scenario) -> None:
    client = _limited(s, b"count=1,bytes=1=;byteHardLimit=1;countHardLimit=1")
    client.call(r.create("/t/c", b"1234567890"))
    client.call(r.set_data("/t", b"1234567890"))
    client.call(r.get_data(_STATS))


@on_server(settings={"enforceQuota": "true"})
def within_a_multi(s: Scenario) -> None:
    """Where a node changes twice, and where the text of the limits cannot be read."""
    client = _limited(s, b"count=-1,bytes=-1=;byteHardLimit=15;countHardLimit=9")
    for first, second in ((2, 10), (3, 10), (10, 11), (10, 2)):
        writes = [r.set_data("/t/b", bytes(size)) for size in (first, second)]
        client.call(r.multi(*writes))
    client.call(r.multi(r.create("/t/c", b"12345"), r.set_data("/t/c", b"123456")))
    client.call(r.get_data(_STATS))
    client.call(r.set_data(_LIMITS, b"garbage"))
    client.call(r.multi(r.delete("/t/b"), r.create("/t/d", b"1"), r.delete("/t")))
    client.call(r.get_children2("/t"))
