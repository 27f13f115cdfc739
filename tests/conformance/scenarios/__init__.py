"""The scenarios, one file a section of the parity list; importing the package registers all."""

from tests.conformance.scenario import SCENARIOS
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
    k_quotas,
    n_statistics,
    n_words,
    r_broken,
    r_limits,
    r_random,
    v_clients,
    w_quirks,
)

MODULES = (
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
    k_quotas,
    n_statistics,
    n_words,
    r_broken,
    r_limits,
    r_random,
    v_clients,
    w_quirks,
)

__all__ = ["MODULES", "SCENARIOS"]
