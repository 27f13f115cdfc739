"""import, export, snapshot and compact as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.apache_log import DATA
from tests.tools.commands import ROLLED, imported, objects, run
from zkstore.storage.env import data_path, storage_dir
from zkstore.storage.offline import Offline


def test_import_says_what_it_did(tmp_path: Path) -> None:
    assert run("import {0} --data-dir {1}", ROLLED, tmp_path) == (
        f"snapshot  {ROLLED}/snapshot.3a.gz\n"
        f"log       {ROLLED}/log.32.gz\n"
        f"log       {ROLLED}/log.3c.gz\n"
        "replayed  7 txns, 8 digests match\n"
        "tree      29 znodes (3 ephemeral), 1 sessions, at zxid 0x41\n"
        f"written   {tmp_path}/zkstore\n"
    )


def test_import_refuses_what_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported(tmp_path / "there")
    (tmp_path / "empty").mkdir()
    for line, code, what in (
        ("import {0} --data-dir {1}", 2, "holds a tree already"),
        ("import {2} --data-dir {3}", 2, "no such file or directory"),
        ("import {4} --data-dir {3}", 1, "holds no snapshot.* and no log.*"),
        ("import {5} --data-dir {3}", 1, "line 1: not JSON"),
        ("import --data-dir {3}", 2, "Name Apache's dataDir or a file"),
        ("import {0}", 2, "--data-dir"),
    ):
        run(line, ROLLED, tmp_path / "there", tmp_path / "none", tmp_path / "new",
            tmp_path / "empty", __file__, code=code)  # fmt: skip
        assert what in capsys.readouterr().err
    assert not (tmp_path / "new" / "zkstore" / "checkpoint").exists()


def test_json_goes_out_and_comes_back(tmp_path: Path) -> None:
    imported(tmp_path / "one")
    run("export {0} --format json --data-dir {1}", tmp_path / "tree.json", tmp_path / "one")
    lines = (tmp_path / "tree.json").read_text().splitlines()
    assert json.loads(lines[0]) == {"zkstore": 1, "zxid": 0x41, "root": "/"}
    assert len(lines) == 1 + 1 + 29
    run("import {0} --data-dir {1}", tmp_path / "tree.json", tmp_path / "two")
    assert run("snapshot compare {0} {1}", tmp_path / "one", tmp_path / "two").startswith(
        "29 nodes compared: 0 only left, 0 only right, 0 changed"
    )
    assert run("snapshot verify {0}", tmp_path / "two").endswith("no damage\n")
    with Offline(tmp_path / "one") as one, Offline(tmp_path / "two") as two:
        assert one.sessions() == two.sessions()
        assert one.totals.digest % (1 << 64) == two.totals.digest % (1 << 64)


def test_a_part_of_a_tree_as_json(tmp_path: Path) -> None:
    imported(tmp_path / "one")
    part = tmp_path / "part.json"
    run("export {0} --format json --path /p/sub --data-dir {1}", part, tmp_path / "one")
    run("import {0} --data-dir {1}", part, tmp_path / "two")
    tree = run("snapshot tree {0} --path /p", tmp_path / "two")
    whole = run("snapshot tree {0} --path /p/sub", tmp_path / "one")
    assert [line.strip() for line in tree.splitlines()[1:]] == [
        line.strip().replace("/p/sub", "sub") for line in whole.splitlines()
    ]
    assert run("snapshot verify {0}", tmp_path / "two").endswith("no damage\n")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"path": "/a"}', "line 3: no node: KeyError('text')"),
        ("[]", "line 3: not an object"),
        ('{"path": "/a", "base64": "?", "acl": []}', "line 3: no node"),
    ],
)
def test_a_wrong_line_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, what: str
) -> None:
    lines = ['{"zkstore": 1, "zxid": 5, "root": "/"}', '{"session": "0x1", "timeout_ms": 5}', line]
    (tmp_path / "x.json").write_text("\n".join(lines) + "\n")
    run("import {0} --data-dir {1}", tmp_path / "x.json", tmp_path / "new", code=1)
    assert what in capsys.readouterr().err


def test_tree_dump_and_summary_of_each_kind_of_source(tmp_path: Path) -> None:
    one = imported(tmp_path / "one")
    run("export {0} --data-dir {1}", tmp_path / "apache", one)
    file = tmp_path / "apache" / "version-2" / "snapshot.41"
    for verb in ("tree", "dump", "summary", "verify"):
        printed = {run(f"snapshot {verb} {{0}}", source) for source in (one, file.parents[1], file)}
        assert len(printed) == 1, verb
        assert objects(f"snapshot {verb} {{0}}", file)
    assert run("snapshot tree {0} --path /m --depth 1", one) == (
        "/m  (6 B, 3 children)\n  e  (0x1000016c7060000)\n  null\n  s-0000000000\n"
    )
    assert run("snapshot summary {0} --path /p --top 2", one).startswith("9 znodes, 270 B of data")


def test_compare_names_nodes_and_fields(tmp_path: Path) -> None:
    left, right = ROLLED / "snapshot.27.gz", ROLLED / "snapshot.3a.gz"
    printed = run("snapshot compare {0} {1}", left, right, code=1)
    assert "only right /acl-digest\n" in printed
    assert "changed   /: children, cversion, pzxid\n" in printed
    weighed = run("snapshot compare {0} {1} --nodes 1 --bytes 1", left, right, code=1)
    # Apache's SnapshotComparer finds the same: it prints 6 descendants and 22 bytes for the root.
    assert weighed.splitlines()[:3] == [
        "/: +6 nodes, +22 bytes", "/acl-digest: +1 nodes, +17 bytes", "/m: +4 nodes, +6 bytes",
    ]  # fmt: skip
    kinds = {one["kind"] for one in objects("snapshot compare {0} {1}", left, right, code=1)}
    assert kinds == {"left", "right", "changed"}


def test_a_snapshot_of_a_stopped_server(tmp_path: Path) -> None:
    one = imported(tmp_path / "one")
    written = run("snapshot create {0} {1}", one, tmp_path / "two")
    assert written == f"written   {tmp_path}/two/zkstore, at zxid 0x41\n"
    run("snapshot compare {0} {1}", one, tmp_path / "two")
    assert objects("snapshot create {0} {1} --format apache", one, tmp_path / "apache") == [
        {"written": f"{tmp_path}/apache/version-2/snapshot.41", "zxid": 0x41}
    ]
    run("snapshot create {0} {1}", one, tmp_path / "two", code=2)


def test_compact_keeps_everything(tmp_path: Path) -> None:
    one = imported(tmp_path / "one")
    before = run("log dump {0}", one), run("export - --format json --data-dir {0}", one)
    run("compact --data-dir {0}", one)
    assert not data_path(storage_dir(one), 1).exists()
    assert data_path(storage_dir(one), 2).exists()
    assert run("snapshot verify {0}", one).endswith("no damage\n")
    assert (run("log dump {0}", one), run("export - --format json --data-dir {0}", one)) == before
    (report,) = objects("compact --data-dir {0}", one)
    assert report["bytes_after"] <= report["bytes_before"]
    run("compact --data-dir {0}", tmp_path / "none", code=2)


def test_damage_has_an_exit_code_and_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "snapshot.17"
    bad.write_bytes(b"ZKSN" + bytes(50))
    for verb in ("dump", "tree", "summary", "verify"):
        run(f"snapshot {verb} {{0}}", bad, code=1)
        assert "snapshot.17: offset 0: not a snapshot" in capsys.readouterr().err
    gz = tmp_path / "snapshot.18.gz"
    gz.write_bytes((ROLLED / "snapshot.17.gz").read_bytes()[:-20])
    run("snapshot summary {0}", gz, code=1)
    assert "snapshot.18.gz: the compressed data is damaged" in capsys.readouterr().err
    snappy = tmp_path / "snapshot.19.snappy"
    snappy.write_bytes((DATA / "zk393-snappy" / "snapshot.17.snappy").read_bytes()[:-20])
    run("snapshot summary {0}", snappy, code=1)
    assert "snapshot.19.snappy: offset 3196: the file ends in a block" in capsys.readouterr().err
