"""The conformance suite's own rules: it is independent of zkstore, complete, and explains its exceptions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conformance import golden
from tests.conformance.scenario import SCENARIOS
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
    suffixes = {f".{suffix}" for suffix, _ in golden.EXCEPTIONS.values()}
    plain = {
        path.name.removesuffix(".txt")
        for path in golden.GOLDEN.glob("*.txt")
        if not any(path.name.endswith(f"{suffix}.txt") for suffix in suffixes)
    }
    assert plain == set(SCENARIOS)


@pytest.mark.parametrize("flavour", golden.EXCEPTIONS)
def test_every_exception_is_explained_and_real(flavour: str) -> None:
    suffix, table = golden.EXCEPTIONS[flavour]
    files = {path.name.removesuffix(f".{suffix}.txt") for path in golden.GOLDEN.glob(f"*.{suffix}.txt")}
    assert files == set(table)
    for name in table:
        assert golden.path(name, flavour).read_text() != golden.path(name).read_text(), name


def test_java_password() -> None:
    """new java.util.Random(0xB3415C00L ^ 0x100001234567890L).nextBytes(...), as Apache gave it."""
    assert java_password(0x10000158D83001E).hex() == "6c0b9c05c021edeb96cbfc33d32ecd4f"
