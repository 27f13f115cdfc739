"""Who is there and who does what: election, membership, discovery, partitions, barriers."""

from __future__ import annotations

import json
import threading
from collections import Counter
from itertools import count

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionClosedError
from kazoo.recipe.barrier import DoubleBarrier
from kazoo.recipe.partitioner import PartitionState, SetPartitioner
from kazoo.recipe.watchers import ChildrenWatch

from tests.clients.support import wait_until
from tests.scenarios.place import Clients, Member, Place, Work, together


def test_one_leads_and_another_follows_it(place: Place, clients: Clients, root: str) -> None:
    """A leader leads on through the server's crash; when it vanishes, exactly one takes over."""
    leaders: list[str] = []
    retire = threading.Event()
    members = [clients.member() for _ in range(2)]
    names = {member.client: str(number) for number, member in enumerate(members)}

    def lead(client: KazooClient) -> None:
        leaders.append(names[client])
        retire.wait(100)

    def campaign(client: KazooClient) -> None:
        try:
            client.Election(root, names[client]).run(lead, client)
        except ConnectionClosedError:
            assert names[client] == first  # it vanished as a leader, and could not resign

    watcher = clients.one()
    threads = [
        threading.Thread(target=campaign, args=(member.client,), daemon=True) for member in members
    ]
    for thread in threads:
        thread.start()
    election = watcher.Election(root, "watcher")
    wait_until(lambda: len(leaders) == 1 and len(election.contenders()) == 2)
    first = leaders[0]
    place.lose_worker()
    wait_until(lambda: all(member.client.connected for member in members))
    assert leaders == [first]
    assert watcher.retry(election.contenders)[0] == first
    members[int(first)].vanish()
    wait_until(lambda: len(leaders) == 2)
    assert sorted(leaders) == ["0", "1"]
    retire.set()
    other = 1 - int(first)
    threads[other].join(30)
    assert not threads[other].is_alive()


def test_a_group_knows_its_members(place: Place, clients: Clients, root: str) -> None:
    members = {name: clients.member() for name in "abc"}
    for name, member in members.items():
        member.client.Party(root, name).join()
    observer = clients.one()
    seen: list[list[str]] = []
    ChildrenWatch(observer, root, lambda names: seen.append(names))
    party = observer.Party(root)
    assert sorted(party) == ["a", "b", "c"]
    place.lose_worker()
    wait_until(lambda: all(member.client.connected for member in members.values()))
    assert sorted(observer.retry(lambda: list(party))) == ["a", "b", "c"]
    members["b"].vanish()
    wait_until(lambda: sorted(observer.retry(lambda: list(party))) == ["a", "c"])
    wait_until(lambda: len(seen[-1]) == 2)


class Instance:
    """A process that serves something, and counts what it is asked."""

    def __init__(self, member: Member, root: str, name: str) -> None:
        self.member = member
        self.name = name
        self.calls = 0
        record = json.dumps({"name": name, "host": "127.0.0.1", "port": 8000}).encode()
        member.client.create(f"{root}/i-", record, ephemeral=True, sequence=True, makepath=True)


class Balancer:
    """A client of the service: takes the instances that are there in turns."""

    def __init__(self, client: KazooClient, root: str) -> None:
        self._client = client
        self._root = root
        self._turn = count()
        self.names: list[str] = []
        ChildrenWatch(client, root, self._changed)

    def _changed(self, children: list[str]) -> None:
        found = [self._client.get(f"{self._root}/{child}")[0] for child in sorted(children)]
        self.names = [json.loads(record)["name"] for record in found]

    def choose(self) -> str:
        names = self.names
        return names[next(self._turn) % len(names)]


def test_services_are_found_and_share_the_load(place: Place, clients: Clients, root: str) -> None:
    instances = {name: Instance(clients.member(), root, name) for name in "abcd"}
    balancer = Balancer(clients.one(), root)
    wait_until(lambda: sorted(balancer.names) == ["a", "b", "c", "d"])
    assert set(Counter(balancer.choose() for _ in range(400)).values()) == {100}
    instances["c"].member.vanish()
    wait_until(lambda: sorted(balancer.names) == ["a", "b", "d"])
    assert set(Counter(balancer.choose() for _ in range(300))) == {"a", "b", "d"}
    place.lose_worker()
    wait_until(lambda: all(instances[name].member.client.connected for name in "abd"))
    Instance(clients.member(), root, "e")
    wait_until(lambda: sorted(balancer.names) == ["a", "b", "d", "e"])


def _keep_partitioned(partitioner: SetPartitioner, done: threading.Event) -> None:
    """What a user of the recipe does for as long as it works."""
    while not done.is_set():
        if partitioner.release:
            partitioner.release_set()
        elif partitioner.failed:
            raise AssertionError("the partitioner failed")
        elif partitioner.allocating:
            partitioner.wait_for_acquire(timeout=1)
        else:
            done.wait(0.05)


def test_work_is_divided_and_divided_again(place: Place, clients: Clients, root: str) -> None:
    """Every part belongs to exactly one member, also after one has vanished and after a crash."""
    parts = tuple(str(number) for number in range(12))
    done = threading.Event()
    members = [clients.member() for _ in range(3)]
    partitioners = [
        SetPartitioner(member.client, root, parts, identifier=str(number), time_boundary=0.3)
        for number, member in enumerate(members)
    ]

    def divided_among(those: list[SetPartitioner]) -> bool:
        if any(one.state != PartitionState.ACQUIRED for one in those):
            return False
        held = [part for one in those for part in one]
        return sorted(held) == sorted(parts) and {len(list(one)) for one in those} == {
            len(parts) // len(those)
        }

    threads = [
        threading.Thread(target=_keep_partitioned, args=(one, done), daemon=True)
        for one in partitioners
    ]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: divided_among(partitioners))
        members[0].vanish()
        wait_until(lambda: divided_among(partitioners[1:]))
    finally:
        done.set()


def test_a_barrier_holds_until_it_is_lifted(place: Place, clients: Clients, root: str) -> None:
    keeper, *waiting = clients.some(4)
    barrier = keeper.Barrier(root)
    barrier.create()
    passed: list[bool] = []

    def wait(client: KazooClient) -> None:
        # kazoo's barrier forgets its watch with the connection: ask again.
        while not client.retry(client.Barrier(root).wait, timeout=0.5):
            pass
        passed.append(True)

    with together(wait, waiting):
        place.restart()
        keeper.retry(barrier.remove)
    assert passed == [True] * 3


def test_all_enter_and_leave_together(clients: Clients, root: str) -> None:
    """Nobody computes before all are in; nobody goes on before all are done."""
    inside: list[KazooClient] = []
    left: list[int] = []

    def work(client: KazooClient) -> None:
        double = DoubleBarrier(client, root, num_clients=4)
        double.enter()
        inside.append(client)
        wait_until(lambda: len(inside) == 4)
        double.leave()
        left.append(len(inside))

    with together(work, clients.some(4)):
        pass
    assert left == [4] * 4


def test_a_counter_counts_everybody(place: Place, clients: Clients, root: str) -> None:
    def work(client: KazooClient) -> None:
        counter = client.Counter(root)
        for _ in range(10):
            counter += 1

    workers = clients.some(4)
    with together(work, workers):
        pass
    place.restart()
    assert workers[0].retry(lambda: workers[0].Counter(root).value) == 40
    with Work(lambda: work(workers[1])):
        pass
    assert workers[0].Counter(root).value == 50
