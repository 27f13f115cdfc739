"""Run one command to its end and print what it took: `python -m bench.measure COMMAND ...`.

Design: a process of its own, and a small one: the kernel counts the memory of the process that a
  command is started from as the command's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    begun = time.perf_counter()
    with subprocess.Popen(argv, stdout=sys.stderr) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    metrics = {
        "run_s": time.perf_counter() - begun,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_mb": usage.ru_maxrss * 1024 / 1e6,
    }
    print(json.dumps(metrics))
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
