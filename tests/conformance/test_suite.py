"""The suite's own rules: independent of zkstore, complete, its exceptions explained."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conformance import golden
from tests.conformance.scenarios import SCENARIOS
from tests.conformance.wire import java_password

_FOLDER = Path(__file__).parent


@pytest.mark.parametrize("path", sorted(_FOLDER.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_of_zkstore_is_imported(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] != "zkstore" for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] != "zkstore"


def test_every_scenario_has_its_golden_text() -> None:
    files = {path.name.removesuffix(".txt") for path in golden.GOLDEN.glob("*.txt")}
    assert {name for name in files if not name.endswith(".zkstore")} == set(SCENARIOS)


def test_every_difference_is_explained_and_real() -> None:
    files = {path.name for path in golden.GOLDEN.glob("*.zkstore.txt")}
    assert files == {f"{name}.zkstore.txt" for name in golden.DIFFERENCES}
    for name in golden.DIFFERENCES:
        ours = golden.path(name, "zkstore-workers").read_text()
        assert ours != golden.path(name).read_text(), name


def test_what_is_not_played_on_38_is_known() -> None:
    assert set(golden.NOT_IN_38) <= set(SCENARIOS)


def test_java_password() -> None:
    """new java.util.Random(0xB3415C00L ^ 0x100001234567890L).nextBytes(...), as Apache gave it."""
    assert java_password(0x10000158D83001E).hex() == "6c0b9c05c021edeb96cbfc33d32ecd4f"
