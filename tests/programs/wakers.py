"""Waits whose end has a known author. Each pair of a waiter and a waker takes turns: the waker goes
to its work some milliseconds after the waiter went to sleep.
"""
import json
import os
import queue
import socket
import sys
import threading
import time

TURNS = 30
PAUSE = 0.015
GO = threading.Event()


class Lock:
    def __init__(self):
        self.lock = threading.Lock()
        self.held, self.turn = threading.Semaphore(0), threading.Semaphore(0)

    def waits_for_lock(self):
        with self.lock:
            pass

    def waits(self):
        self.held.acquire()
        self.waits_for_lock()
        self.turn.release()

    def takes_lock(self):
        self.lock.acquire()
        self.held.release()

    def releases_lock(self):
        self.lock.release()

    def wakes(self):
        self.takes_lock()
        time.sleep(PAUSE)
        self.releases_lock()
        self.turn.acquire()


class Queue:
    def __init__(self):
        self.queue = queue.Queue()

    def waits_for_queue(self):
        self.queue.get()

    def puts_into_queue(self):
        self.queue.put(1)

    def wakes(self):
        time.sleep(PAUSE)
        self.puts_into_queue()

    waits = waits_for_queue


class Pipe:
    def __init__(self):
        self.read, self.write = os.pipe()

    def waits_for_pipe(self):
        os.read(self.read, 1)

    def writes_to_pipe(self):
        os.write(self.write, b"x")

    def wakes(self):
        time.sleep(PAUSE)
        self.writes_to_pipe()

    waits = waits_for_pipe


class Pair:
    def __init__(self):
        self.left, self.right = socket.socketpair()

    def waits_for_pair(self):
        self.left.recv(1)

    def sends_to_pair(self):
        self.right.send(b"x")

    def wakes(self):
        time.sleep(PAUSE)
        self.sends_to_pair()

    waits = waits_for_pair


class Tcp:
    def __init__(self):
        server = socket.create_server(("127.0.0.1", 0))
        self.left = socket.create_connection(server.getsockname())
        self.right = server.accept()[0]
        for end in (self.left, self.right):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def waits_for_tcp(self):
        self.left.recv(1)

    def sends_over_tcp(self):
        self.right.send(b"x")

    def wakes(self):
        time.sleep(PAUSE)
        self.sends_over_tcp()

    waits = waits_for_tcp


class Child:
    """A process of its own ends."""

    def waits_for_child(self, child):
        os.waitpid(child, 0)

    def waits(self):
        # This waits, too: until the child executes its program.
        self.waits_for_child(os.posix_spawn("/bin/sleep", ["sleep", str(PAUSE)], {}))

    def wakes(self):
        pass


class Timer:
    def waits_for_timer(self):
        time.sleep(PAUSE)

    def wakes(self):
        pass

    waits = waits_for_timer


def again(step):
    GO.wait()
    for _ in range(TURNS):
        step()


def holds_interpreter():
    """`sum` does not let the lock go."""
    for _ in range(20):
        sum(range(2000000))


def holds(done):
    # The thread that starts this one, and joins it, wants the lock, too.
    time.sleep(0.05)
    holds_interpreter()
    done.set()
    time.sleep(0.05)


def wants_interpreter():
    time.sleep(0.001)


def wants(done):
    while not done.is_set():
        wants_interpreter()


threads = []
for kind in (Lock, Queue, Pipe, Pair, Tcp, Child, Timer):
    pair = kind()
    for step in (pair.waits, pair.wakes):
        name = "%s %s" % (kind.__name__, step.__name__)
        threads.append(threading.Thread(target=again, args=(step,), name=name))
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.readline()
GO.set()
for thread in threads:
    thread.join()
# Afterwards: it would keep all others from going on.
done = threading.Event()
threads = [
    threading.Thread(target=work, args=(done,), name=work.__name__) for work in (wants, holds)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done", flush=True)
sys.stdin.readline()
