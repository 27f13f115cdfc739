"""Runs a real supervisor over the stand-ins: python -m tests.unit.fakes.supervised FOLDER WORKERS.

Prints the ready line as `zkstore serve` does; LIMITS in the environment is a JSON object.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys

from zkstore.observability import log
from zkstore.server.listener import bind_client_port
from zkstore.server.ready import Ready, ready_line
from zkstore.server.supervisor import Limits, Modules, Supervisor
from zkstore.settings import Settings


def main() -> int:
    log.configure("supervisor")
    settings = Settings(
        data_dir=sys.argv[1],
        client_port=0,
        client_port_address="127.0.0.1",
        workers=int(sys.argv[2]),
    )
    listening = bind_client_port(settings)
    settings = dataclasses.replace(settings, client_port=listening.getsockname()[1])

    def ready(found: Ready) -> None:
        print(ready_line(settings, found), flush=True)

    supervisor = Supervisor(
        settings,
        listening,
        ready,
        modules=Modules("tests.unit.fakes.commit", "tests.unit.fakes.worker"),
        limits=Limits(**json.loads(os.environ.get("LIMITS", "{}"))),
    )
    return supervisor.run()


sys.exit(main())
