"""Recipes are kazoo's, and speak to the same server: here its lock and its counter.

Prints:
5 workers counted to 5
"""

from threading import Thread

from kazoo.client import KazooClient

from zkstore import Server


def work(address: str) -> None:
    client = KazooClient(address)
    client.start()
    counter = client.Counter("/counter")
    with client.Lock("/lock"):
        counter += 1
    client.stop()


def main(address: str) -> None:
    workers = [Thread(target=work, args=[address]) for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    client = KazooClient(address)
    client.start()
    print("5 workers counted to", client.Counter("/counter").value)
    client.stop()


if __name__ == "__main__":
    with Server() as server:
        main(server.address)
