"""`pytest tests/golden --rewrite` writes down what happens now; review the diff."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the golden stories anew")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether stories are written down instead of compared."""
    # The option is only known when pytest was started with this folder.
    return bool(request.config.getoption("--rewrite", default=False))
