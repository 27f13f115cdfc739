"""What zoo.cfg's authProvider.N means here: the class that a line names is Java's or Python's.

Not here: what a provider does (tree/), the schemes world, auth, ip, digest and super, which are
  always there.
Source: ProviderRegistry of ZooKeeper 3.9.
"""

from __future__ import annotations

import re
from typing import Final

_JAVA_PACKAGE: Final = "org.apache.zookeeper.server.auth."
_PYTHON: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")

# Apache's classes that add nothing, because their scheme is always there.
_BUILT_IN: Final = frozenset({"DigestAuthenticationProvider", "IPAuthenticationProvider"})
_KNOWN: Final = frozenset({"EnsembleAuthenticationProvider"})
_LATER: Final = {
    "KeyAuthenticationProvider": "the example provider of Apache is not part of zkstore",
    "SASLAuthenticationProvider": "SASL and Kerberos come with a later version",
    "X509AuthenticationProvider": "TLS comes with a later version",
    "X509ZNodeGroupAclProvider": "TLS comes with a later version",
}


def translate(class_name: str) -> tuple[str | None, str | None]:
    """The provider to load for a configured class, and a warning; either may be None.

    A provider that cannot be loaded is no error: ACLs of its scheme are refused, nothing is opened.
    """
    if _PYTHON.match(class_name):
        return class_name, None
    short = class_name.removeprefix(_JAVA_PACKAGE).removeprefix("znode.groupacl.")
    if short in _BUILT_IN:
        return None, None
    if short in _KNOWN:
        return short, None
    reason = _LATER.get(
        short, 'a Java class cannot run here; name a Python class as "module:Class"'
    )
    return None, f"{reason}; ACLs of its scheme are refused"
