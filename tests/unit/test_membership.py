"""Memberships: Apache's text form, and what a quorum is."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkstore.zab.membership import Address, Hierarchical, Majority, Member, Membership

THREE = (
    "server.1=a:2888:3888:participant\n"
    "server.2=[::1]:2888:3888:participant;0.0.0.0:2181\n"
    "server.3=c:2888:3888|d:2889:3889:observer;c:2181;[::2]:2281\n"
)


def test_a_text_is_written_as_it_was_read() -> None:
    text = THREE + "group.1=1:2\nweight.1=2\nweight.2=1\nversion=1a0000000b"
    membership = Membership.parse(text)
    assert membership.text().decode() == text
    assert membership.version == 0x1A0000000B
    assert membership.voters == frozenset({1, 2}) and membership.observers == frozenset({3})
    assert membership.members[3] == Member(
        3, (Address("c", 2888, 3888), Address("d", 2889, 3889)), True, ("c", 2181), ("::2", 2281)
    )
    assert Membership.parse(THREE).text().decode() == THREE + "version=0"


@pytest.mark.parametrize(
    "line, written",
    [
        ("a:1:2", "a:1:2:participant"),
        ("a:1:2:PARTICIPANT", "a:1:2:participant"),
        ("a:1:2;5", "a:1:2:participant;0.0.0.0:5"),
        (" a:1:2 : observer ; h : 5 ", "a:1:2:observer;h:5"),
        ("b:1:2|a:1:2", "a:1:2|b:1:2:participant"),
        ("b:1:2:observer|a:1:2:observer;[::]:5", "a:1:2|b:1:2:observer;[::]:5"),
    ],
)
def test_spellings_of_a_server_line(line: str, written: str) -> None:
    assert Member.parse(5, line).text() == written


@pytest.mark.parametrize(
    "line",
    [
        *("", "a", "a:1", "a:1:2:3:4", "a:1:2;b", "a:1:2;b:c", "a:1:2;1;2;3", "a:1:1", "a:65536:1"),
        *(
            "a:1:2:boss",
            "a:1:2:observer|b:1:2:participant",
            "::1:1:2",
            "a:1:2|",
            "|a:1:2",
            "a:-1:2",
        ),
        *("a:1:2;", "a b\n:1:x", "a:1:2:", "a:1:2;65536"),
    ],
)
def test_server_lines_that_are_refused(line: str) -> None:
    with pytest.raises(ValueError):
        Member.parse(5, line)


@pytest.mark.parametrize(
    "text",
    [
        *("", "version=0", "server.1=a:1:2:observer\nversion=0", "server.x=a:1:2"),
        *("server.-1=a:1:2", "server.9223372036854775808=a:1:2", "tickTime=5", "group=1"),
        f"{THREE}version=xyz",
        f"{THREE}version=8000000000000000",
        f"{THREE}group.1=1",
        f"{THREE}group.1=1:2:1",
        f"{THREE}group.1=1:2\ngroup.2=2",
        f"{THREE}group.1=1:2\nweight.1=-1",
        f"{THREE}group.1=1:2\nweight.1=0\nweight.2=0",
        f"{THREE}weight.1=1",
    ],
)
def test_texts_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Membership.parse(text)
    with pytest.raises(ValueError):
        Membership.parse(b"\xff" + text.encode())


@given(st.text(alphabet="server.123=abc:;|group weight\n0", max_size=60) | st.text())
def test_any_text_is_a_membership_or_refused(text: str) -> None:
    try:
        membership = Membership.parse(text)
    except ValueError:
        return
    assert Membership.parse(membership.text()).text() == membership.text()


def test_a_majority() -> None:
    quorums = Majority(frozenset({1, 2, 3, 4}))
    assert quorums.is_quorum([1, 2, 3])
    assert not quorums.is_quorum([1, 2])
    assert not quorums.is_quorum([1, 2, 9, 9, 8]), "strangers and doubles count nothing"


def test_groups() -> None:
    """Source: QuorumHierarchical.containsQuorum."""
    groups = {1: (1, 2, 3), 2: (4, 5, 6), 3: (7, 8, 9)}
    quorums = Hierarchical(frozenset(range(1, 10)), groups, {9: 0})
    assert quorums.is_quorum([1, 2, 4, 5])
    assert not quorums.is_quorum([1, 2, 3, 4, 7, 9])
    assert not quorums.is_quorum([1, 2, 7]), "one of two that weigh anything is no majority"
    assert quorums.is_quorum([1, 2, 7, 8])
    assert quorums.weight(9) == 0 and quorums.weight(1) == 1 and quorums.weight(77) == 0


def test_a_group_without_weight_is_not_asked() -> None:
    quorums = Hierarchical(frozenset({1, 2, 3}), {1: (1,), 2: (2, 3)}, {2: 0, 3: 0})
    assert quorums.is_quorum([1])
    assert not quorums.is_quorum([2, 3])


def subsets(voters: frozenset[int]) -> list[frozenset[int]]:
    return [
        frozenset(some)
        for some in chain.from_iterable(combinations(voters, n) for n in range(len(voters) + 1))
    ]


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=6),
    st.lists(st.integers(0, 3), min_size=6, max_size=6),
    st.booleans(),
)
def test_any_two_quorums_share_a_voter(
    group_of: list[int], weights: list[int], majority: bool
) -> None:
    voters = frozenset(range(len(group_of)))
    groups = {g: [v for v in voters if group_of[v] == g] for g in set(group_of)}
    try:
        quorums = (
            Majority(voters) if majority else Hierarchical(voters, groups, dict(enumerate(weights)))
        )
    except ValueError:
        assert not any(weights[: len(group_of)])
        return
    assert quorums.is_quorum(voters) and not quorums.is_quorum([])
    winning = [some for some in subsets(voters) if quorums.is_quorum(some)]
    assert all(a & b for a in winning for b in winning)
