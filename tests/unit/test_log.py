"""Logging: one line a record, and a flood of one kind is held back."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from zkstore.observability import log


@pytest.fixture
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("_root_logger")
def test_a_record_is_one_line_that_says_who_and_when(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("worker 2")
    logging.getLogger("x").warning("client said %s", "a\n2026-01-01 ERROR forged\r")
    logging.getLogger("x").debug("unseen")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} WARNING \[worker 2\] "
        r"client said a\\n2026-01-01 ERROR forged\\r",
        lines[0],
    )


def test_a_flood_is_held_back_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    limited = log.Limited(
        logging.getLogger("flood"), logging.WARNING, per_minute=2, clock=lambda: now
    )
    for second in range(100):
        now = float(second)
        limited("refused %d", second)
    assert caplog.messages == [
        "refused 0",
        "refused 1",
        "refused 60 (58 more like this were not logged)",
        "refused 61",
    ]
