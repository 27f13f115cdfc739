"""A worker that tells whoever connects its pid and its number, and waits to be stopped."""

from __future__ import annotations

import mmap
import os
import selectors
import signal
import socket
import threading

from tests.unit.fakes.protocol import Process, block_stop_signal
from zkstore.frontend.board import CLIENTS, Board


def answer(process: Process) -> None:
    listening = socket.socket(fileno=process.bootstrap["listen_fds"][0])
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    while selector.select():
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            continue
        with connection:
            connection.sendall(f"{process.bootstrap['worker']} {os.getpid()}\n".encode())


def main() -> None:
    block_stop_signal()
    process = Process()
    number = process.bootstrap["worker"]
    words = process.behaviour(f"worker{number}")
    board = Board(mmap.mmap(process.bootstrap["board_fd"], 0), number)
    before, _ = board.clients()
    board.put(CLIENTS, 7)
    process.note(f"worker{number} start {os.getpid()} count {before}")
    commit = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    commit.connect(process.bootstrap["commit_path"])
    commit.sendall(str(os.getpid()).encode())
    process.misbehave(words)
    threading.Thread(target=answer, args=(process,), daemon=True).start()
    process.report("ready")
    if words[0] == "deaf":
        while True:
            signal.pause()
    process.serve_until_told(f"worker{number}")


main()
