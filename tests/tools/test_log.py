"""zkstore log as a user types it."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.golden.apache_log import DATA
from tests.property.stored import create, open_writer, perform
from tests.tools.commands import ROLLED, imported, objects, run
from zkstore.storage.env import storage_dir


def log_copy(folder: Path) -> Path:
    """A server's directory with unpacked logs."""
    shutil.copytree(ROLLED, folder)
    for path in folder.glob("log.*.gz"):
        content = gzip.decompress(path.read_bytes())
        path.with_suffix("").write_bytes(content)
        path.unlink()
    return folder


def test_dump_and_its_filters() -> None:
    lines = run("log dump {0}", ROLLED).splitlines()
    assert len(lines) == 65
    assert lines[0] == (
        "2026-11-21T07:55:41.768Z  zxid 0x1  session 0x1000016c7060000  cxid 0x0"
        "  createSession (timeout 20000 ms)"
    )
    for options, zxids in (
        ("--since 0x3e --upto 0x40", [0x3E, 0x3F, 0x40]),
        ("--path /del", [0x22, 0x23, 0x24, 0x25]),
        ("--op createTTL --op closeSession", [0x14, 0x15, 0x39, 0x3B, 0x3F, 0x40]),
        ("--session 0x1000016c7060003", [0x3C, 0x3D, 0x3F]),
        ("--from-time 2026-11-21T07:55:47Z", [0x40, 0x41]),
        ("--to-time 2026-11-21T07:55:41.768Z", [0x1]),
    ):
        found = [one["zxid"] for one in objects(f"log dump {{0}} {options}", ROLLED)]
        assert found == zxids, options


def test_the_same_log_in_zkstore(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(DATA / "zk393", source)
    run("import {0} --data-dir {1}", source, tmp_path / "one")
    mine = run("log dump {0}", tmp_path / "one")
    assert mine == run("log dump {0}", source)
    assert run("log verify {0}", tmp_path / "one") == (
        "65 txns, zxid 0x1 to 0x41\nno damage\n"
    )
    assert run("log tail {0} -n 2", tmp_path / "one") == "".join(mine.splitlines(True)[-2:])


def test_stat(tmp_path: Path) -> None:
    printed = run("log stat {0} --svg {1}", ROLLED, tmp_path / "rate.svg")
    assert printed.startswith("65 txns, 1.0 MB, zxid 0x1 to 0x41\n")
    assert "   1.0 MB  zxid 0x10  create /big\n" in printed
    drawing = ElementTree.parse(tmp_path / "rate.svg").getroot()
    assert drawing.tag.endswith("svg")
    (counted,) = objects("log stat {0}", ROLLED)
    assert counted["txns"] == sum(sum(slot.values()) for slot in counted["rates"]["slots"]) == 65


def test_verify_and_recover_apaches_log(tmp_path: Path) -> None:
    source = log_copy(tmp_path / "source")
    last = source / "log.3c"
    content = bytearray(last.read_bytes())
    at = content.index(b"/ttlshort", content.index(b"/ttlshort") + 1)
    content[at] ^= 1  # the last txn
    last.write_bytes(content)
    printed = run("log verify {0}", source, code=1)
    assert "log.3c: offset" in printed
    assert "checksum does not match (zxid 0x41)" in printed
    run("import {0} --data-dir {1}", source, tmp_path / "refused", code=1)
    before = last.read_bytes()
    looked = run("log recover {0}", source, code=1)
    assert "dropped   zxid 0x41\n" in looked
    assert last.read_bytes() == before
    run("log recover {0} --yes", source, code=1)
    assert (source / "log.3c.damaged").read_bytes() == before
    assert run("log verify {0}", source).endswith("no damage\n")
    assert "zxid 0x40\n" in run("import {0} --data-dir {1}", source, tmp_path / "taken")


def test_a_gap_is_named(tmp_path: Path) -> None:
    source = log_copy(tmp_path / "source")
    (source / "log.29").unlink()
    assert "zxid 0x32 comes behind 0x28: txns are missing" in run("log verify {0}", source, code=1)


def test_purge_apaches(tmp_path: Path) -> None:
    source = log_copy(tmp_path / "source")
    run("log purge {0} --keep 2", source, code=2)
    removed = run("log purge {0} --keep 3", source)
    assert {line.rpartition("/")[2] for line in removed.splitlines()} == {
        "snapshot.0.gz", "snapshot.8.gz", "snapshot.17.gz", "log.1", "log.a",
    }  # fmt: skip
    run("import {0} --data-dir {1}", source, tmp_path / "one")
    assert run("log purge {0} --keep 3", source) == "nothing to remove\n"


def test_purge_zkstores(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    for zxid in range(1, 11):
        perform(writer, create(zxid, b"/n%d" % zxid))
    writer.close()
    run("log purge {0}", tmp_path, code=2)
    assert run("log purge {0} --keep 3", tmp_path) == (
        "7 txns dropped, the log begins behind zxid 0x7\n"
    )
    assert run("log verify {0}", tmp_path) == "3 txns, zxid 0x8 to 0xa\nno damage\n"
    assert run("snapshot verify {0}", tmp_path).endswith("no damage\n")
    assert run("log purge {0} --keep-bytes 0", tmp_path).startswith("2 txns dropped")


def damaged_journal(folder: Path) -> None:
    """A killed server whose journal has lost the second of three records."""
    writer = open_writer(folder)
    for zxid in range(1, 4):
        perform(writer, create(zxid, b"/n%d" % zxid))
    writer._replica.abandon()
    journal = storage_dir(folder) / "journal.1"
    content = bytearray(journal.read_bytes())
    content[content.index(b"/n2")] ^= 1
    journal.write_bytes(content)


def test_recover_a_damaged_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged_journal(tmp_path)
    assert "is damaged, later ones are whole" in run("log verify {0}", tmp_path, code=1)
    looked = run("log recover {0}", tmp_path, code=1)
    assert "dropped   zxid 0x3\n" in looked
    assert "nothing was written" in looked
    run("log recover {0} --yes", tmp_path, code=1)
    (kept,) = storage_dir(tmp_path).glob("journal-damaged-*")
    assert (kept / "journal.1").exists()
    assert run("log recover {0}", tmp_path) == "no damage\n"
    assert run("log verify {0}", tmp_path) == "1 txns, zxid 0x1 to 0x1\nno damage\n"


def test_what_is_no_log_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("log dump {0}", tmp_path / "none", code=2)
    run("log dump {0}", tmp_path, code=2)
    (tmp_path / "log.1").write_bytes(b"junk")
    run("log dump {0}", tmp_path, code=1)
    assert "log.1: offset 0: not a log of ZooKeeper" in capsys.readouterr().err
    imported(tmp_path / "one")
    run("log dump {0} --op nothing", tmp_path / "one", code=2)
    run("log dump {0} --since x", tmp_path / "one", code=2)
