"""What all tests share: how hypothesis searches."""

from __future__ import annotations

from hypothesis import settings

# A slow machine is no failure; what was found is printed so that it can be repeated.
settings.register_profile("zkstore", deadline=None, print_blob=True)
settings.load_profile("zkstore")
