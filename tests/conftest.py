"""What all tests share: how hypothesis searches, how much memory a test may take, its signals."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A slow machine is no failure; what was found is printed so that it can be repeated. `make test`
# looks at the same examples in each run, `make soak` at new ones.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("zkstore", _patient, derandomize=True)
settings.register_profile("soak", _patient, max_examples=1000)
settings.load_profile("zkstore")

# A test that does not end shall fail by a MemoryError, not take the machine down with it. Shared
# maps (LMDB's) do not count. What the tests start has the same limit, each process for itself.
resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))


@pytest.fixture
def signals_not_ignored() -> Iterator[None]:
    """What the test starts heeds SIGINT and SIGHUP, also if the tests run behind nohup."""
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
