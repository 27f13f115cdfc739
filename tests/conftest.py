"""What all tests share: how hypothesis searches, and how much memory a test may take."""

from __future__ import annotations

import resource

from hypothesis import settings

# A slow machine is no failure; what was found is printed so that it can be repeated.
settings.register_profile("zkstore", deadline=None, print_blob=True)
settings.load_profile("zkstore")

# A test that does not end shall fail by a MemoryError, not take the machine down with it. Shared
# maps (LMDB's) do not count. What the tests start has the same limit, each process for itself.
resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
