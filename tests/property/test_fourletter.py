"""proto/fourletter.py: whatever the numbers are, the tools that parse the texts get them back."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from zkstore.proto import fourletter, opcodes

LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
COUNTS = st.integers(0, 1 << 62)
TIMES = st.floats(0, 1e9)
CONNECTIONS = st.fixed_dictionaries(
    {
        "address": st.sampled_from(["127.0.0.1", "0:0:0:0:0:0:0:1", "fe80:0:0:0:0:0:0:1%eth0"]),
        "port": st.integers(1, 65_535),
        **dict.fromkeys(("outstanding", "received", "sent", "timeout_ms", "count"), COUNTS),
        "session_id": st.just(0) | LONGS,
        "established_ms": COUNTS,
        "last_op": st.sampled_from(sorted(opcodes.SHORT_NAMES)) | st.integers(-20, 200),
        "last_cxid": st.integers(-1, (1 << 31) - 1),
        "last_zxid": LONGS,
        **dict.fromkeys(("last_ms", "last_latency", "max_latency", "total_latency"), TIMES),
        "min_latency": st.just(-1.0) | TIMES,
    }
)
# As the check plugins and exporters that are in use read a line of `cons`.
LINE = re.compile(r" /(\S+):(\d+)\[([01])\]\((\w+=-?\w+(?:,\w+=-?\w+)*)\)")


@given(st.lists(CONNECTIONS, max_size=5))
def test_cons(connections: list[dict[str, int]]) -> None:
    text = fourletter.cons({"connections": connections})
    *lines, last, end = text.split("\n")
    assert (last, end) == ("", "")
    assert len(lines) == len(connections)
    for line, one in zip(lines, connections, strict=True):
        found = LINE.fullmatch(line)
        assert found is not None, line
        assert (found[1].strip("[]"), int(found[2])) == (one["address"], one["port"])
        assert (found[1][0] == "[") == (":" in str(one["address"]))
        fields = dict(field.split("=") for field in found[4].split(","))
        assert int(fields["queued"]) == one["outstanding"]
        assert (int(fields["recved"]), int(fields["sent"])) == (one["received"], one["sent"])
        if one["session_id"]:
            assert int(fields["sid"], 16) == one["session_id"] % (1 << 64)
            assert int(fields["lzxid"], 16) == one["last_zxid"] % (1 << 64)
            assert int(fields["minlat"]) >= 0
        else:
            assert set(fields) == {"queued", "recved", "sent"}


@given(
    st.dictionaries(COUNTS.map(lambda ms: ms % (1 << 40)), st.lists(LONGS, min_size=1), max_size=4),
    st.dictionaries(LONGS, st.lists(st.sampled_from([b"/a", b"/b/c"]), min_size=1), max_size=3),
)
def test_dump(expiry: dict[int, list[int]], ephemerals: dict[int, list[bytes]]) -> None:
    told = {"expiry": expiry, "ephemerals": ephemerals, "connections": [], "now_ms": 0}
    sessions, _, rest = fourletter.dump(told).partition("ephemeral nodes dump:\n")
    listed = [int(one, 16) for one in re.findall(r"^\t(0x\w+)$", sessions, re.MULTILINE)]
    ordered = [one for _, ids in sorted(expiry.items()) for one in ids]
    assert listed == [one % (1 << 64) for one in ordered]
    assert f"({len(expiry)})/({len(ordered)})" in sessions
    paths = re.findall(r"^\t(/\S+)$", rest, re.MULTILINE)
    assert paths == [path.decode() for listed in ephemerals.values() for path in listed]
