"""The one place where the version stands; setup.cfg reads it from here without importing zkstore.

Not here: the number of the format on the disk (storage/format_version.py), the version of Apache
ZooKeeper that clients are told (proto/).
"""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
