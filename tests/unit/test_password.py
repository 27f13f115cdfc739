"""session/password.py: ids and passwords are Java's."""

from __future__ import annotations

import pytest

from zkstore.session.password import first_session_id, password_of

# From ConnectResponses of Apache ZooKeeper 3.9.3 (and what java.util.Random gives for the last
# five, whose ids no server makes soon).
JAVA = {
    0x100003457420000: "0cdcb42ca9aa5996ca4b4e1d9a094872",
    0x100003457420001: "1ffdae2c49f638dbbf8eb5486e925c3f",
    0x100001A79A00000: "d241b301f7e3a25c00c6dfcb9896cdf7",
    0x100001A79A00001: "e562ad01972f82a1f50847f76c1fe2c4",
    0x100001A79A00005: "31e79501175effb4ca14e4a4ba4234f9",
    0x100001682FB0000: "e735446fe8ae01789db4bcb1713dfc73",
    1: "054cc74a37327db215e702e20c73f005",
    -1: "20f62cb5648dc2d771471c8a2486a9ee",
    -72057594037927935: "054cc74a37327db215e702e20c73f005",
    (1 << 63) - 1: "20f62cb5648dc2d771471c8a2486a9ee",
    -(1 << 63): "f22acd4a97e69d6d20a49bb638eadb38",
}


@pytest.mark.parametrize("session_id", JAVA)
def test_the_password_of_a_session_is_javas(session_id: int) -> None:
    assert password_of(session_id).hex() == JAVA[session_id]


@pytest.mark.parametrize(
    ("server_id", "now_ms", "first"),
    [
        (1, 1795247724050, 117653354843340800),
        (254, 1795247724050, -98519427270443008),
        (0, 1, 65536),
    ],
)
def test_the_first_session_id_is_javas(server_id: int, now_ms: int, first: int) -> None:
    assert first_session_id(server_id, now_ms) == first
