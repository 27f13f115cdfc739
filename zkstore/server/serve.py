"""`zkstore serve`: runs one replica in the foreground until it is told to stop.

Owns:   the command's options, its one line on stdout, its exit codes: 0 stopped as asked, 1 it
        could not run or go on, 2 the command or the configuration is wrong.
Not here: what the options mean together with a zoo.cfg (config.py), processes (supervisor.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import resource
import sys
from pathlib import Path

from zkstore.errors import ConfigError, ZkstoreError
from zkstore.observability import log
from zkstore.server import config, listener
from zkstore.server.cores import cores_available
from zkstore.server.ready import Ready, ready_line
from zkstore.server.supervisor import Supervisor
from zkstore.settings import Settings

_log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Runs a replica."""
    arguments = _parser().parse_intermixed_args(argv)
    log.configure("supervisor")
    try:
        configuration = _configure(arguments)
        for warning in configuration.warnings:
            _log.warning("%s", warning)
        return _serve(configuration.settings)
    except ConfigError as error:
        return _failed(error, 2)
    except ZkstoreError as error:
        return _failed(error, 1)


def _failed(error: ZkstoreError, code: int) -> int:
    sys.stderr.write(f"zkstore: {error}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zkstore serve",
        description="Run one replica in the foreground. SIGTERM stops it cleanly.",
        epilog="Instead of a file, Apache's other form is understood as well:"
        " port dataDir [tickTime] [maxClientCnxns]",
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="*", metavar="zoo.cfg", help="a ZooKeeper configuration")
    parser.add_argument("--data-dir", metavar="D", help="where the data is kept (default: data)")
    parser.add_argument("--client-port", metavar="P", help="0 takes any free port (default: 2181)")
    parser.add_argument("--workers", metavar="N", help="serving processes (default: one a core)")
    parser.add_argument("--embedded", action="store_true", help="everything in one process")
    parser.add_argument(
        "-D",
        action="append",
        default=[],
        dest="definitions",
        metavar="NAME=VALUE",
        help="a system property, such as -Dzookeeper.maxCnxns=1000",
    )
    return parser


def _configure(arguments: argparse.Namespace) -> config.Configuration:
    source = None
    if len(arguments.config) == 1:
        source = config.read_file(Path(arguments.config[0]))
    elif arguments.config:
        source = config.apache_arguments(arguments.config)
    given = {
        "--data-dir": ("dataDir", arguments.data_dir),
        "--client-port": ("clientPort", arguments.client_port),
        "--workers": ("zkstore.workers", arguments.workers),
        "--embedded": ("zkstore.embedded", "true" if arguments.embedded else None),
    }
    return config.configure(source, arguments.definitions, config.read_options(given))


def _serve(settings: Settings) -> int:
    settings = dataclasses.replace(settings, workers=settings.workers or cores_available())
    _raise_file_limit()
    with listener.bind_client_port(settings) as listening:
        settings = dataclasses.replace(settings, client_port=listening.getsockname()[1])
        if settings.embedded:
            # The supervisor's process does without storage and event loop; only this form has them.
            from zkstore.server import embedded

            log.configure("server")
            embedded.serve(settings, [listening], lambda found: _say_ready(settings, found))
            return 0
        return Supervisor(settings, listening, lambda found: _say_ready(settings, found)).run()


def _say_ready(settings: Settings, found: Ready) -> None:
    try:
        sys.stdout.write(ready_line(settings, found) + "\n")
        sys.stdout.flush()
    except OSError as error:
        # Nobody reads it any more; that is no reason to stop serving.
        _log.warning("cannot write to standard output: %s", error.strerror)


def _raise_file_limit() -> None:
    """Every connection is an open file; Java's virtual machine takes all it is allowed, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            _log.warning("only %d open files are allowed: %s", soft, error)
