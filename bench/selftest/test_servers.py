"""Servers of other commits, and groups with a limit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import cgroups, servers, wire


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One commit, and a change that is not committed."""
    folder = tmp_path / "repository"
    for name in ("zkstore/version.py", "tools/tool.py", "setup.cfg", "other"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("committed")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    (folder / "zkstore" / "version.py").write_text("changed")
    monkeypatch.setattr(servers, "REPOSITORY", folder)
    return folder


def test_a_commit_is_laid_out_beside_what_is_worked_on(repository: Path) -> None:
    (kind,) = servers.resolve(["zkstore@HEAD"])
    assert kind.name == f"zkstore@{kind.commit}"
    assert kind.source != repository and kind.source.is_relative_to(repository / "build")
    assert (kind.source / "zkstore" / "version.py").read_text() == "committed"
    assert (kind.source / "zkstore" / "tools" / "tool.py").read_text() == "committed"
    assert not (kind.source / "other").exists()
    assert servers.resolve(["zkstore@HEAD"]) == [kind]


def test_what_is_no_commit_is_refused(repository: Path) -> None:
    for name in ("zkstore@nothing", "nothing", "nothing@HEAD"):
        with pytest.raises(ValueError, match="nothing"):
            servers.resolve([name])


def test_no_port_is_given_twice() -> None:
    ports = [servers.free_port() for _ in range(500)]
    assert len(set(ports)) == len(ports)


def test_a_group_limits_what_is_in_it() -> None:
    """Where no group can be made, the reason is given instead."""
    reason = cgroups.refusal()
    if reason:
        with pytest.raises((wire.BenchmarkError, OSError)), cgroups.memory_limit(1 << 26):
            pass
        return
    program = ["python3", "-c", "x = bytearray(1 << 28); print(len(x))"]
    for limit, fits in ((1 << 30, True), (1 << 26, False)):
        with cgroups.memory_limit(limit) as group:
            done = subprocess.run([*group.enter, *program], capture_output=True, check=False)
            assert (done.returncode == 0) is fits
            assert group.peak_bytes() > 1 << 20
        assert not group.path.exists()
