"""A commit process that keeps nothing: accepts on the commit socket and waits to be stopped."""

from __future__ import annotations

import os
import signal
import socket

from tests.unit.fakes.protocol import Process, block_stop_signal


def main() -> None:
    block_stop_signal()
    process = Process()
    words = process.behaviour("commit")
    process.note(f"commit start {os.getpid()}")
    process.misbehave(words)
    if words[0] != "unready":
        process.report("ready", zxid=18, znodes=34, replayed=12, seconds=0.03)
    if words[0] == "stale":
        # Once a worker has connected its pid is known.
        listening = socket.socket(fileno=process.bootstrap["commit_fd"])
        connection, _ = listening.accept()
        process.report("stale_reader", pid=int(connection.recv(100)))
        process.report("suspect", message="a node fails its check")
    if words[0] == "deaf":
        process.note("commit deaf")
        while True:
            signal.pause()
    process.serve_until_told("commit")


main()
