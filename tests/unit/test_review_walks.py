"""What a review found about walks over a large tree: they kept everybody else waiting."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.property.stored import create, open_writer, perform, txn
from zkstore.commit import keeper
from zkstore.commit.process import CommitServer
from zkstore.commit.process import open_writer as open_all
from zkstore.proto import opcodes as op
from zkstore.settings import Settings
from zkstore.storage.disk import Disk
from zkstore.storage.writer import Writer
from zkstore.tree import acl as acls


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    opened = open_writer(tmp_path)
    yield opened
    opened.close()


def test_descendants_are_counted_by_their_keys(writer: Writer) -> None:
    """Beside short names: those whose keys are hashes, and paths whose children's keys are."""
    rng = random.Random(1)
    made = [b""]
    for zxid in range(1, 300):
        name = rng.choice((b"n", b"m" * 60, b"l" * 240, b"k" * 255, b"k" * 400)) + b"%d" % zxid
        path = rng.choice(made[-40:]) + b"/" + name
        perform(writer, create(zxid, path))
        made.append(path)
    with writer.views.open() as view:
        for path in made:
            path = path or b"/"
            assert view.count_below(path) == sum(1 for _ in view.descendants(path)), path


def test_the_sweep_looks_at_a_page_in_a_beat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred thousand TTL nodes at once took most of a second, without a heartbeat."""
    monkeypatch.setattr(keeper, "_SWEEP_PAGE", 4)

    async def run() -> list[int]:
        settings = Settings(
            data_dir=str(tmp_path), disk_reserve_bytes=1 << 20, container_check_interval_ms=1
        )
        opened = open_all(settings, Disk())
        nodes = [
            txn(zxid, op.CREATE_TTL, b"/%d" % zxid, b"", acls.OPEN_ENCODED, -1, 1)
            for zxid in range(1, 11)
        ]
        perform(opened.writer, *nodes)
        left = [opened.writer.totals.nodes]
        server = CommitServer(settings, opened, asyncio.get_running_loop())
        for _ in range(3):
            server.loop.turn()
            left.append(opened.writer.totals.nodes)
            server.keeper._beat()
        server.abandon()
        return left

    total, first, *rest = asyncio.run(run())
    assert [total - first, *(total - one for one in rest)] == [4, 8, 10]
