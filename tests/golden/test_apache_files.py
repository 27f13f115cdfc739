"""Directories that Apache's servers left behind become zkstore's, and go back again: the same tree.

`data/<server>`: logs and snapshots of a real server; expected.json: what its clients saw last.
"""

from __future__ import annotations

import gzip
import shutil
import time
from pathlib import Path

import pytest

from tests.golden.apache_log import DATA, SERVERS, expected
from tools import logs
from zkstore.apache.snapshot import Reader
from zkstore.errors import CorruptionError
from zkstore.storage import apache_files
from zkstore.storage.intake import import_apache
from zkstore.storage.offline import Offline
from zkstore.storage.outlet import COMPRESSIONS, export_apache
from zkstore.storage.verify import Verification
from zkstore.tree import acl as acls
from zkstore.tree import node as nodes

HOLDER_TIMEOUT_MS = 20_000  # of the one session that the servers' clients kept


def silent(_what: str, _count: int) -> None:
    """No progress."""


def compare(server: str, tree: Offline) -> None:
    """The tree is what Apache's clients saw, and its tables fit it."""
    wanted = expected(server).tree
    found = dict(tree.walk())
    assert set(found) == set(wanted)
    table = {-1: acls.OPEN, **{acl_id: acls.decode(one) for acl_id, one in tree.acls()}}
    for path, (stat, data, acl) in wanted.items():
        value = found[path]
        assert value[nodes.STAT] == stat, path
        assert tree.data(value) == data, path
        assert list(table[nodes.unpack(value)[nodes.ACL_ID]]) == acl, path
    assert list(Verification(tree, silent).run()) == []
    assert list(tree.sessions().values()) == [HOLDER_TIMEOUT_MS]


@pytest.mark.parametrize("server", SERVERS)
def test_a_directory_becomes_the_tree_its_clients_saw(server: str, tmp_path: Path) -> None:
    report = import_apache(DATA / server, tmp_path)
    assert report.warnings == []
    assert (report.digests_checked > 0) == (not server.endswith("nodigest"))
    with Offline(tmp_path) as tree:
        compare(server, tree)
        assert tree.applied == report.zxid == 0x41


SNAPSHOTS = [
    (server, found.path.name)
    for server in SERVERS
    for found in apache_files.list_files(DATA / server).snapshots
]


@pytest.mark.parametrize(("server", "snapshot"), SNAPSHOTS)
def test_every_fuzzy_snapshot_leads_to_the_same_tree(
    server: str, snapshot: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(DATA / server, source)
    for found in apache_files.list_files(source).snapshots:
        if found.path.name != snapshot:
            found.path.unlink()
    import_apache(source, tmp_path / "target")
    with Offline(tmp_path / "target") as tree:
        compare(server, tree)


def test_logs_without_a_snapshot_are_refused_until_trusted(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(DATA / "zk393", source)
    (source / "snapshot.0.gz").unlink()
    with pytest.raises(CorruptionError, match="--trust-empty"):
        import_apache(source, tmp_path / "target")
    import_apache(source, tmp_path / "target", trust_empty=True)
    with Offline(tmp_path / "target") as tree:
        compare("zk393", tree)


def test_a_missing_log_is_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(DATA / "zk393-rolled", source)
    for name in ("snapshot.3a.gz", "snapshot.30.gz", "log.29.gz"):
        (source / name).unlink()
    with pytest.raises(CorruptionError, match=r"log\.32\.gz: offset 16: zxid 0x32 comes behind"):
        import_apache(source, tmp_path / "target")
    assert not list((tmp_path / "target").rglob("data.*"))


@pytest.mark.parametrize("server", ["zk393-gz", "zk393-snappy"])
def test_compressed_snapshots_are_read(server: str, tmp_path: Path) -> None:
    report = import_apache(DATA / server, tmp_path)
    assert (report.zxid, report.nodes, report.digests_checked) == (0x17, 25, 1)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("server", SERVERS)
def test_what_was_imported_goes_out_and_comes_back(
    server: str, compression: str, tmp_path: Path
) -> None:
    import_apache(DATA / server, tmp_path / "first")
    with Offline(tmp_path / "first") as tree:
        path = export_apache(tree, tmp_path / "apache", compression)
        assert path.name.removesuffix(f".{compression}") == "snapshot.41"
        with apache_files.open_read(path) as read:
            reader = Reader(read, str(path))
            reader.header()
            assert list(reader.sessions()) == list(tree.sessions().items())
            assert list(reader.acls()) == tree.acls()
            assert sum(1 for _ in reader.nodes()) == tree.totals.nodes
            assert reader.seals() == (0x41, tree.totals.digest % (1 << 64), 0x41)
    import_apache(tmp_path / "apache", tmp_path / "second")
    with Offline(tmp_path / "second") as tree:
        compare(server, tree)


def test_the_log_is_printed_as_apaches_toolkit_prints_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    printed = tmp_path / "printed"
    with printed.open("w") as out:
        for found in apache_files.list_files(DATA / "zk393-rolled").logs:
            assert logs.main(["dump", "--toolkit", str(found.path)], out) == 0
    wanted = gzip.decompress((DATA / "zk393-rolled" / "toolkit.txt.gz").read_bytes())
    assert printed.read_bytes() == wanted
