"""The golden transcripts: one of Apache ZooKeeper 3.9 a scenario, and the explained exceptions.

Owns:       golden/<scenario>.txt (recorded from Apache 3.9.3: the rule) and
            golden/<scenario>.zkstore.txt (where zkstore means to differ).
Invariants:
  1. Explained: a .zkstore.txt exists exactly when its scenario stands in DIFFERENCES, and differs.
Not here:   how transcripts are made (scenario.py), recording them (record.py).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.conformance.scenarios import SCENARIOS

GOLDEN: Final = Path(__file__).parent / "golden"

_ERROR_BEFORE_CLOSE: Final = (
    "an oversized frame gets a reply with its xid before the connection closes, so that the client "
    "learns which it was; its error is the one that clients report when Apache just closes"
)
_NOT_FOR_CLIENTS: Final = (
    "a request that only servers may make is answered Unimplemented; Apache carries it out for "
    "anybody, without any check"
)

_OF_ITS_OWN: Final = (
    "a null, or a limit that cannot be read, is the error of its own operation, as every other "
    "error; Apache gives up the whole request"
)

DIFFERENCES: Final = {
    "a_handshake.bad_length_after_the_handshake": _ERROR_BEFORE_CLOSE,
    "a_handshake.frame_too_large": _ERROR_BEFORE_CLOSE,
    "a_handshake.smaller_frame_limit": _ERROR_BEFORE_CLOSE,
    "n_words.word_after_the_handshake_is_a_frame": _ERROR_BEFORE_CLOSE,
    "w_quirks.w1_create_session_from_a_client": _NOT_FOR_CLIENTS,
    "w_quirks.w1_delete_container_from_a_client": _NOT_FOR_CLIENTS,
    "h_sessions.wrong_password_and_the_live_connection": (
        "a wrong password is refused and that is all; Apache cuts the session's connection before "
        "it looks at the password, so that anybody who guesses an id can cut it"
    ),
    "g_multi.what_is_not_allowed_in_a_multi_read": (
        "an error reply has no body; Apache sends what it had of the results behind the error, "
        "which no client reads"
    ),
    "g_multi.null_path_in_a_multi_read": _OF_ITS_OWN,
    "g_multi.nulls_in_an_acl": _OF_ITS_OWN,
    "k_quotas.within_a_multi": (
        "an operation of a multi is judged by what it adds to what is there when the multi begins, "
        "so that a node that changes twice counts once; Apache adds the difference between the two "
        "changes to the usage before both. And as above, where the limits cannot be read"
    ),
    "j_auth.ipv6_address_in_an_acl": "as Apache since 3.9.4",
    "n_statistics.environment": "there is no Java virtual machine: Python's keys instead of its",
    "n_words.conf": "the data lies in dataDir/zkstore, not in dataDir/version-2",
}
"""Where zkstore means to differ from Apache ZooKeeper 3.9, and why."""

_CHECK_WATCHES_38: Final = (
    "3.8 cannot check or remove persistent watches, and looks at all clients'"
)
_EXISTS_38: Final = "exists needs no right to read before 3.9.2"
_MULTI_38: Final = "results of create2, TTL and containers, and what a multi may hold, changed"
_UNPARSABLE_38: Final = "a request that cannot be parsed takes a zxid in 3.8"

NOT_IN_38: Final = {
    "b_opcodes.check_outside_multi": "3.8 takes it as a write: its database breaks",
    "b_opcodes.add_watch": "a null path is an error in 3.8",
    "c_errors.null_paths": "a null path inside a multi takes no zxid in 3.8",
    "c_errors.unparsable_create": _UNPARSABLE_38,
    "c_errors.unparsable_create_ttl": _UNPARSABLE_38,
    "c_errors.unparsable_delete": _UNPARSABLE_38,
    "c_errors.unparsable_set_data": _UNPARSABLE_38,
    "c_errors.unparsable_set_acl": _UNPARSABLE_38,
    "d_watch_modes.check_watches": _CHECK_WATCHES_38,
    "d_watch_modes.remove_watches": _CHECK_WATCHES_38,
    "d_watch_modes.remove_watches_that_are_not_there": _CHECK_WATCHES_38,
    "d_watch_modes.removing_one_of_two_recursive_watches": _CHECK_WATCHES_38,
    "d_watch_modes.watches_of_another_connection_stay": _CHECK_WATCHES_38,
    "d_watch_modes.every_mode_on_one_path": "one mode on a path replaces the other in 3.8",
    "d_watch_modes.standard_watch_over_a_persistent_one": "the one replaces the other in 3.8",
    "d_watches.set_watches2_has_no_catch_up_for_persistent": "as above: one mode only",
    "d_watch_modes.only_readers_see_events": _EXISTS_38,
    "f_order.reads": _EXISTS_38,
    "j_auth.each_permission_alone": _EXISTS_38,
    "w_quirks.w17_exists_needs_the_right_to_read": _EXISTS_38,
    "g_multi.container_flag_inside": _MULTI_38,
    "g_multi.nulls_in_an_acl": "a null ACL is the error of its own operation in 3.8",
    "g_multi.every_operation": _MULTI_38,
    "g_multi.later_operations_see_earlier_ones": _MULTI_38,
    "g_multi.what_is_not_allowed_inside": _MULTI_38,
    "w_quirks.w1_delete_container_from_a_client": "3.8 counts its zxids otherwise",
} | {
    name: "any of the reasons here"
    for name in SCENARIOS
    if name.startswith(("r_broken.", "r_random."))
}
"""Scenarios that are not played on Apache ZooKeeper 3.8.0, because it differs from 3.9.3."""

_EVENT_ZXID: Final = re.compile(r"( < event .* zxid=)\S+")


def path(name: str, flavour: str = "apache-3.9") -> Path:
    """The file that a scenario's transcript on a flavour of server must equal."""
    own = flavour.startswith("zkstore") and name in DIFFERENCES
    return GOLDEN / (f"{name}.zkstore.txt" if own else f"{name}.txt")


def expected(name: str, flavour: str) -> str:
    """What a scenario's transcript on a flavour of server must be."""
    text = path(name, flavour).read_text()
    if flavour == "apache-3.8":
        # Before 3.9.0 the header of every event said -1.
        text = _EVENT_ZXID.sub(r"\1-1", text)
    return text


def played(flavour: str) -> list[str]:
    """The names of the scenarios that are played on a flavour of server."""
    left_out = NOT_IN_38 if flavour == "apache-3.8" else {}
    return [name for name in SCENARIOS if name not in left_out]
