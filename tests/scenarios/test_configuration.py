"""Configuration that many processes share: kept in sync by watches, changed by version checks."""

from __future__ import annotations

import json

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, ConnectionLoss, SessionExpiredError
from kazoo.protocol.states import ZnodeStat
from kazoo.recipe.cache import TreeCache
from kazoo.recipe.watchers import DataWatch

from tests.clients.support import wait_until
from tests.scenarios.place import Clients, Place, together

_LOST = (ConnectionLoss, SessionExpiredError)


def test_everybody_follows_a_value(place: Place, clients: Clients, root: str) -> None:
    """Through a crash and a restart; nobody ever sees an older version than one it has seen."""
    writer = clients.one()
    writer.create(root, b"0")
    seen: list[list[tuple[int, bytes]]] = []
    for reader in clients.some(4):
        seen.append(_follow(reader, root))
    for number in range(1, 31):
        if number == 10:
            place.crash()
        if number == 20:
            place.restart()
        writer.retry(writer.set, root, b"%d" % number)
    wait_until(lambda: all(mine[-1][1] == b"30" for mine in seen))
    for mine in seen:
        versions = [version for version, _ in mine]
        assert versions == sorted(versions)


def _follow(reader: KazooClient, path: str) -> list[tuple[int, bytes]]:
    """(version, data) of the node, as often as the reader sees it change."""
    seen: list[tuple[int, bytes]] = []

    def note(data: bytes, stat: ZnodeStat) -> None:
        seen.append((stat.version, data))

    DataWatch(reader, path, note)
    return seen


def test_a_tree_is_mirrored(place: Place, clients: Clients, root: str) -> None:
    """kazoo's TreeCache, which watches every node, agrees with the tree after a worker's death."""
    writer, reader = clients.some(2)
    writer.ensure_path(root)
    cache = TreeCache(reader, root)
    cache.start()
    try:
        for number in range(12):
            if number == 6:
                place.lose_worker()
            writer.retry(writer.ensure_path, f"{root}/service{number % 3}")
            writer.retry(writer.set, f"{root}/service{number % 3}", b"%d" % number)
        writer.retry(writer.delete, f"{root}/service0")
        expected = {f"{root}/service1": b"10", f"{root}/service2": b"11"}

        def mirrored() -> dict[str, bytes]:
            names = cache.get_children(root) or ()
            found = {f"{root}/{name}": cache.get_data(f"{root}/{name}") for name in names}
            return {path: node.data for path, node in found.items() if node is not None}

        wait_until(lambda: mirrored() == expected)
    finally:
        cache.close()


def test_updates_by_version_are_all_kept(place: Place, clients: Clients, root: str) -> None:
    """Each of four writers adds its marks to one document; a lost reply is settled by looking."""
    workers = clients.some(4)
    workers[0].create(root, b"[]")

    def add(client: KazooClient, mark: str) -> None:
        while True:
            try:
                data, stat = client.get(root)
                marks = json.loads(data)
                if mark in marks:
                    return  # the write whose reply was lost
                client.set(root, json.dumps([*marks, mark]).encode(), version=stat.version)
            except BadVersionError:
                continue  # somebody was faster: read again
            except _LOST:
                wait_until(lambda: client.connected)
            else:
                return

    def work(client: KazooClient) -> None:
        for number in range(15):
            add(client, f"{workers.index(client)}-{number}")

    with together(work, workers):
        place.crash()
    marks = json.loads(workers[0].retry(workers[0].get, root)[0])
    assert len(marks) == len(set(marks)) == 60


def test_a_transfer_is_all_or_nothing(place: Place, clients: Clients, root: str) -> None:
    """Two nodes changed in one multi with version checks: their sum never changes."""
    workers = clients.some(3)
    accounts = (f"{root}/a", f"{root}/b")
    for account in accounts:
        workers[0].create(account, b"100", makepath=True)

    def transfer(client: KazooClient, amount: int) -> None:
        (one, one_stat), (two, two_stat) = (client.get(account) for account in accounts)
        transaction = client.transaction()
        transaction.check(accounts[0], one_stat.version)
        transaction.set_data(accounts[0], b"%d" % (int(one) - amount))
        transaction.check(accounts[1], two_stat.version)
        transaction.set_data(accounts[1], b"%d" % (int(two) + amount))
        transaction.commit()

    def work(client: KazooClient) -> None:
        for number in range(20):
            try:
                transfer(client, number)
            except _LOST:
                wait_until(lambda: client.connected)

    with together(work, workers):
        place.crash()
    reader = workers[0]
    assert sum(int(reader.retry(reader.get, account)[0]) for account in accounts) == 200
    versions = {reader.retry(reader.get, account)[1].version for account in accounts}
    assert len(versions) == 1 and versions != {0}
