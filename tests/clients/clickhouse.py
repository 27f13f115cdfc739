"""A real ClickHouse against a real server: `python -m tests.clients.clickhouse [HOST:PORT]`.

Owns:   a server of its own, unless it is given one; ClickHouse's engine runs in this process.
Design: `pip install chdb` brings the engine without its server, so its tables in ZooKeeper
        (KeeperMap) are what can be used of it; they need multi, multiRead and most of 500 to 506.
        It is some hundreds of megabytes, so `make test` does without.
Not here: tables that replicate; docs/compatibility.md says how those were tried.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import zkstore

_CONFIG: Final = """<clickhouse>
<zookeeper><node><host>{host}</host><port>{port}</port></node></zookeeper>
<keeper_map_path_prefix>/keeper_map</keeper_map_path_prefix>
<logger><level>debug</level><log>{folder}/log</log></logger>
</clickhouse>
"""
_INSERT: Final = "INSERT INTO one SELECT toString(number), number FROM numbers({})"
# (query, what it answers; None: that it fails)
_SCRIPT: Final[tuple[tuple[str, str | None], ...]] = (
    ("CREATE TABLE one (k String, v UInt64) ENGINE=KeeperMap('/map', 5000) PRIMARY KEY k", ""),
    (_INSERT.format(50), ""),
    ("SELECT count(), sum(v) FROM one", "50\t1225"),
    ("SELECT v FROM one WHERE k IN ('3', '7', 'none') ORDER BY v", "3\n7"),
    ("ALTER TABLE one UPDATE v = v + 1 WHERE k = '3'", ""),
    ("SELECT v FROM one WHERE k = '3'", "4"),
    ("SET keeper_map_strict_mode = 1", ""),
    ("INSERT INTO one VALUES ('3', 9)", None),
    ("SET keeper_map_strict_mode = 0", ""),
    ("INSERT INTO one VALUES ('3', 10)", ""),
    ("DELETE FROM one WHERE k = '7'", ""),
    ("SELECT count(), any(v) FROM one WHERE k IN ('3', '7')", "1\t10"),
    ("CREATE TABLE two (k String, v UInt64) ENGINE=KeeperMap('/map', 5000) PRIMARY KEY k", ""),
    ("SELECT count() FROM two", "49"),
    (_INSERT.format(5000), ""),
    ("SELECT count(), sum(v) FROM two", "5000\t12497500"),
    (_INSERT.format(5001), None),
    ("DROP TABLE two SYNC", ""),
    ("TRUNCATE TABLE one", ""),
    ("SELECT count() FROM one", "0"),
    (_INSERT.format(2000), ""),
    ("DROP TABLE one SYNC", ""),
    ("SELECT generateSerialID('{serial}')", "0"),
    ("SELECT generateSerialID('{serial}')", "1"),
)
_FLAGS: Final = (
    "FILTERED_LIST", "MULTI_READ", "CHECK_NOT_EXISTS", "CREATE_IF_NOT_EXISTS", "REMOVE_RECURSIVE",
    "MULTI_WATCHES", "CHECK_STAT", "PERSISTENT_WATCHES", "CREATE_WITH_STATS", "TRY_REMOVE",
    "LIST_WITH_STAT_AND_DATA",
)  # fmt: skip


def _answer(connection: Any, query: str) -> str | None:
    try:
        return str(connection.query(query, "TSV")).strip()
    except RuntimeError as e:
        print(f"  {str(e)[:200]}")
        return None


def main(address: str | None) -> int:
    chdb = importlib.import_module("chdb")
    wrong = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if address is None:
            address = stack.enter_context(zkstore.Server(folder / "data")).address
        host, _, port = address.rpartition(":")
        config = folder / "config.xml"
        config.write_text(_CONFIG.format(host=host, port=port, folder=folder))
        connection = chdb.connect(f":memory:?config-file={config}&path={folder}/clickhouse")
        for query, wanted in _SCRIPT:
            found = _answer(connection, query.replace("{serial}", folder.name))
            print("ok   " if found == wanted else f"WRONG {found!r}:", query)
            wrong += found != wanted
        connection.close()
        log = (folder / "log").read_text(errors="replace")
        missing = [flag for flag in _FLAGS if f"feature flag {flag}: enabled" not in log]
        print(f"{wrong} of {len(_SCRIPT)} wrong; feature flags not seen: {missing or 'none'}")
    return bool(wrong or missing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
