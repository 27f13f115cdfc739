"""CPU and memory of a tree of processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from bench import procs

# A parent and a child. Each thread that burnt CPU has ended when the line is printed.
PROGRAM = """
import subprocess, sys, threading, time
def burn():
    end = time.thread_time() + 0.15
    while time.thread_time() < end:
        pass
thread = threading.Thread(target=burn)
thread.start()
thread.join()
child = None
if len(sys.argv) < 2:
    child = subprocess.Popen([sys.executable, __file__, "child"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    child.stdout.readline()
print("ready", flush=True)
sys.stdin.readline()
if child:
    child.stdin.close()
    child.wait()
    print("childless", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    program = tmp_path_factory.mktemp("procs") / "program.py"
    program.write_text(PROGRAM)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(program)], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_cpu_is_that_of_all_processes_and_of_ended_threads(
    process: subprocess.Popen[bytes],
) -> None:
    tree = procs.process_tree(process.pid)
    assert len(tree) == 2 and tree[0] == process.pid
    assert all(procs.cpu_ns(pid) >= 150_000_000 for pid in tree)
    sample = procs.cpu_sample(process.pid)
    assert sample.since(procs.CpuSample({})) >= 300_000_000
    assert 0 <= procs.cpu_sample(process.pid).since(sample) < 1_000_000_000


def test_cpu_that_was_lost_is_an_error(process: subprocess.Popen[bytes]) -> None:
    before = procs.cpu_sample(process.pid)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"childless\n"
    with pytest.raises(ProcessLookupError, match="ended"):
        procs.cpu_sample(process.pid).since(before)


def test_memory_has_two_parts(process: subprocess.Popen[bytes]) -> None:
    one = procs.memory([process.pid])
    both = procs.memory(procs.process_tree(process.pid))
    assert 1 << 20 < one.anonymous < both.anonymous
    assert 0 < one.file < both.file


def test_a_group_lives_as_long_as_one_of_it() -> None:
    program = "import subprocess, sys; subprocess.Popen(['sleep', '60']); print('x', flush=True)"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as first:
        assert first.stdout is not None and first.stdout.readline() == b"x\n"
        first.wait()
        assert procs.lives_in_group(first.pid)
        os.killpg(first.pid, signal.SIGKILL)
        while procs.lives_in_group(first.pid):
            time.sleep(0.01)


def test_a_process_that_is_gone(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    with pytest.raises(ProcessLookupError):
        procs.process_tree(process.pid)
