"""What every stand-in does: reads its bootstrap, ties its life to the supervisor, reports events.

The test writes its wishes to a file that ZKSTORE_TEST_SCRIPT names; see `behaviour`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from zkstore.lifeline import follow_supervisor


class Process:
    """One stand-in: its bootstrap, and a way to report."""

    def __init__(self) -> None:
        assert sys.argv[1] == "--bootstrap"
        with open(int(sys.argv[2]), "rb") as pipe:
            self.bootstrap: dict[str, Any] = json.load(pipe)
        follow_supervisor(self.bootstrap["supervisor_pid"])
        self.folder = Path(os.environ["ZKSTORE_TEST_FOLDER"])

    def report(self, event: str, **fields: object) -> None:
        line = json.dumps({"event": event, **fields}) + "\n"
        os.write(self.bootstrap["status_fd"], line.encode())

    def note(self, line: str) -> None:
        """One line in the journal that the test reads; appended whole."""
        with open(self.folder / "journal", "a") as journal:
            journal.write(f"{line}\n")

    def behaviour(self, name: str) -> list[str]:
        """What the test wants of the n-th start of this process: words of line n of its script.

        The last line counts for all later starts as well.
        """
        starts = self.folder / f"{name}.starts"
        with open(starts, "a") as file:
            file.write("x")
        script = self.folder / f"{name}.script"
        lines = script.read_text().splitlines() if script.exists() else ["serve"]
        return lines[min(starts.stat().st_size, len(lines)) - 1].split()

    def misbehave(self, words: list[str]) -> None:
        """Dies or stops as the words say; returns if they say nothing of the kind."""
        match words:
            case ["kill", number]:
                os.kill(os.getpid(), signal.Signals[number])
            case ["exit", code]:
                os._exit(int(code))
            case ["fatal", restart]:
                self.report("fatal", message="the disk is on fire", restart=restart == "restart")
                os._exit(3)

    def serve_until_told(self, name: str) -> None:
        """Waits for SIGTERM, says so, and goes; "deaf" ignores it."""
        received = signal.sigwait({signal.SIGTERM})
        self.note(f"{name} {signal.Signals(received).name}")
        sys.exit(0)


def block_stop_signal() -> None:
    """So that `serve_until_told` finds a signal that came early."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
