"""The shop of service.py under load, with requests that are counted.

Arguments: connections, the file of the counter of finished requests, which the client counts. The
load is closed: on each connection the next request comes when the last one was answered, so that
there is always work, and nothing sleeps. What limits it is the one CPU that the service's threads
share, and give on at each answer, and whenever one has a lock that another wants: so all that a
switch costs more comes off the requests. On several CPUs they would hand the interpreter's lock over
five times as often or not, from one second to the next, and no percent could be seen. The client is
one thread that parses next to nothing, on another CPU.
"""

import os
import selectors
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading

import bench_common
import service

CPUS = os.sched_getaffinity(0)
VISITS_LOCK = threading.Lock()
OPEN = threading.local()


class Shop(service.Shop):
    """As there, with a connection to the database for each thread, and a lock instead of what SQLite
    does to keep writers apart, which is to sleep."""

    def load(self, product):
        """Reads the reviews, and counts the visit."""
        with VISITS_LOCK:
            self.query("UPDATE visits SET count = count + 1 WHERE product = ?", product)
        return self.query("SELECT stars, text FROM reviews WHERE product = ?", product)

    def query(self, statement, *values):
        """Asks the database."""
        if not hasattr(OPEN, "connection"):
            OPEN.connection = sqlite3.connect(self.database)
            # The disk is not what is measured.
            OPEN.connection.execute("PRAGMA synchronous = OFF")
        with OPEN.connection:
            return OPEN.connection.execute(statement, values).fetchall()


class Client:
    """One connection."""

    def __init__(self, port, first):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.next = first
        self.left = 0

    def ask(self):
        """Sends a request."""
        self.next = (self.next + 7) % service.PRODUCTS
        self.socket.send(b"GET /product/%d HTTP/1.1\r\n\r\n" % self.next)

    def take(self):
        """Takes what there is, and tells whether the answer is whole."""
        data = self.socket.recv(1 << 16)
        if not self.left:
            # An answer comes in pieces at most behind its head.
            head, _, data = data.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                os._exit(1)
            self.left = int(head.lower().partition(b"content-length: ")[2].split()[0])
        self.left -= len(data)
        return not self.left


def generate_load(port, connections, path):
    """The client."""
    os.sched_setaffinity(0, {min(CPUS)})
    done = bench_common.counter(path)
    bench_common.end_with_input()
    selector = selectors.DefaultSelector()
    for number in range(connections):
        client = Client(port, number * 31)
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.ask()
    while True:
        for key, _ in selector.select():
            if key.data.take():
                done[0] += 1
                key.data.ask()


def main():
    """The service."""
    connections, path = sys.argv[1:]
    os.sched_setaffinity(0, {max(CPUS)})
    with tempfile.TemporaryDirectory() as directory:
        Shop.database = os.path.join(directory, "shop.db")
        service.make_database(Shop.database)
        service.PRICES.update((product, float(product)) for product in range(service.PRODUCTS))
        server = service.Server(("127.0.0.1", 0), Shop)
        threading.Thread(target=server.serve_forever, name="server", daemon=True).start()
        port = str(server.server_address[1])
        command = [sys.executable, __file__, "--load", port, connections, path]
        load = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, CPUS),
        )
        done = bench_common.counter(path)
        while done[0] < 100 and load.poll() is None:
            threading.Event().wait(0.01)
        if load.poll() is None:
            bench_common.ready()
            sys.stdin.read()
        load.kill()
        load.wait()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "--load":
        generate_load(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        main()
