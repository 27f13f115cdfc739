"""import --from: what cannot be copied is said, and so is what changes meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_digest_acl

import zkstore
from tests.tools.commands import objects, run
from tools import fromlive
from zkstore.storage.offline import Offline


def test_ephemerals_stay_and_changes_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zkstore.Server(tmp_path / "live") as server:
        one = KazooClient(server.address)
        one.start()
        for number in range(450):
            one.create(f"/a/n{number}", b"x" * number, makepath=True)
        one.create("/a/eph", b"", ephemeral=True)
        one.create("/null", None)
        compare = fromlive.Live.compare

        def change_first(self: fromlive.Live, tree: Offline) -> int:
            one.set("/a/n7", b"changed")
            one.create("/new", b"")
            return compare(self, tree)

        monkeypatch.setattr(fromlive.Live, "compare", change_first)
        (report,) = objects(f"import --from {server.address} --data-dir {{0}}", tmp_path / "copy",
                            code=1)  # fmt: skip
        assert report["nodes"] == 450 + 6
        named = [one for one in report["warnings"] if "changed while" in one]
        assert "changed while it was copied: /a/n7: data" in named
        assert "changed while it was copied: /new: not in the copy" in named
        assert "1 ephemerals were left out" in report["warnings"]
        one.stop()
    assert run("snapshot verify {0}", tmp_path / "copy").endswith("no damage\n")


def test_no_server_and_no_right_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fromlive, "_CONNECT_TIMEOUT_S", 0.3)
    run("import --from 127.0.0.1:1 --data-dir {0}", tmp_path / "copy", code=2)
    assert "no server answers" in capsys.readouterr().err
    monkeypatch.setattr(fromlive, "_CONNECT_TIMEOUT_S", 15.0)
    with zkstore.Server(tmp_path / "live") as server:
        one = KazooClient(server.address, auth_data=[("digest", "u:p")])
        one.start()
        one.create("/mine", b"", acl=[make_digest_acl("u", "p", all=True)])
        run(f"import --from {server.address} --data-dir {{0}}", tmp_path / "copy", code=2)
        assert "credentials: --auth" in capsys.readouterr().err
        run(f"import --from {server.address} --auth digest:u:p --data-dir {{0}}", tmp_path / "copy")
        one.stop()
