"""The scenarios, one file for each section of the parity list; importing this package registers all of them."""

from tests.conformance.scenarios import (
    a_handshake,
    b_opcodes,
    c_errors,
    d_watch_modes,
    d_watches,
    e_data_model,
    e_lifetimes,
    f_order,
    g_multi,
    h_sessions,
    j_auth,
    n_words,
    r_random,
    v_clients,
    w_quirks,
)

__all__ = [
    "a_handshake",
    "b_opcodes",
    "c_errors",
    "d_watch_modes",
    "d_watches",
    "e_data_model",
    "e_lifetimes",
    "f_order",
    "g_multi",
    "h_sessions",
    "j_auth",
    "n_words",
    "r_random",
    "v_clients",
    "w_quirks",
]
