"""What a server refuses to start on: a clear line on stderr, an exit code, and nothing is hurt."""

from __future__ import annotations

from pathlib import Path

import pytest

import zkstore
from tests.faults.bystander import UNFLUSHED, Bystanders
from tests.invariants.replica import WAIT_SECONDS, Replica, lives
from zkstore.errors import DirectoryInUse, FormatError
from zkstore.storage.format_version import FORMAT


def refusal(replica: Replica) -> tuple[int, str]:
    """Start a server that must not start; returns its exit code and all that it wrote."""
    try:
        process = replica.launch()
        return process.wait(WAIT_SECONDS), replica.output
    finally:
        replica.kill_all()


def second_on(data_dir: Path, folder: Path) -> Replica:
    """A server that was given this data directory, which is another's."""
    replica = Replica(folder / "second", 2)
    replica.data_dir = data_dir
    return replica


def test_a_second_server_on_the_same_directory(tmp_path: Path) -> None:
    with Replica(tmp_path / "first", 2, UNFLUSHED) as first, Bystanders(first):
        pids = first.pids()
        code, output = refusal(second_on(first.data_dir, tmp_path))
        assert code == 1
        assert "is in use by process" in output
        assert any(str(pid) in output for pid in (first.supervisor, *pids))
        assert first.pids() == pids


def test_a_second_server_on_the_same_port(tmp_path: Path) -> None:
    with Replica(tmp_path / "first", 2, UNFLUSHED) as first, Bystanders(first):
        code, output = refusal(Replica(tmp_path / "second", 2, port=first.port))
        assert code == 1
        assert f"cannot listen on 127.0.0.1:{first.port}" in output
        assert "Traceback" not in output


def test_an_embedded_server_on_a_directory_in_use(tmp_path: Path) -> None:
    in_use = pytest.raises(DirectoryInUse, match="is in use by process")
    with Replica(tmp_path, 1, UNFLUSHED) as first, Bystanders(first, 1), in_use:
        zkstore.Server(first.data_dir).start()
    with zkstore.Server(first.data_dir) as server, pytest.raises(DirectoryInUse):
        zkstore.Server(server.data_dir).start()


def test_data_of_a_newer_format(tmp_path: Path) -> None:
    """Once, and without trying again and again; the data stay as they are."""
    with Replica(tmp_path, 2) as replica:
        assert replica.terminate() == 0
        replica.kill_all()
        path = replica.data_dir / "zkstore" / "format"
        path.write_text(path.read_text().replace(str(FORMAT), str(FORMAT + 1)))
        before = sorted((p.name, p.read_bytes()) for p in path.parent.iterdir() if p.is_file())
        code, output = refusal(replica)
        assert code == 1
        assert f"format {FORMAT + 1}" in output
        assert output.count(f"format {FORMAT + 1}") == 1
        assert "Traceback" not in output
        after = sorted((p.name, p.read_bytes()) for p in path.parent.iterdir() if p.is_file())
        assert [one for one in after if one[0] != "lock"] == [o for o in before if o[0] != "lock"]
        with pytest.raises(FormatError):
            zkstore.Server(replica.data_dir).start()


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    replica = Replica(tmp_path, 2)
    replica.data_dir.write_text("not a directory")
    code, output = refusal(replica)
    assert code == 2
    assert str(replica.data_dir) in output
    assert "Traceback" not in output


def test_a_refused_server_leaves_no_process(tmp_path: Path) -> None:
    with Replica(tmp_path / "first", 1) as first:
        other = second_on(first.data_dir, tmp_path)
        process = other.launch()
        children = set()
        while process.poll() is None:
            children |= set(other.pids())
        assert not any(map(lives, children))
        other.kill_all()
