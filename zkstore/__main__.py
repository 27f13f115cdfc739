"""`python -m zkstore` is the command `zkstore`."""

from __future__ import annotations

import sys

from zkstore.server.cli import main

sys.exit(main())
