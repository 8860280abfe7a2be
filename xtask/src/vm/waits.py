"""Waits of known causes, each in a function of its own, ended by another thread's.

With gil, two threads that want the interpreter's lock all the time.
"""
import _socket
import fcntl
import os
import select
import sys
import threading
import time

# Long against what an emulated machine needs to switch, short against a recording.
PERIOD = 0.02


def sleeps():
    time.sleep(PERIOD)


def waits_for_lock():
    LOCK.acquire()


def ends_lock():
    # On a slow machine the other one may not have come back to it.
    if LOCK.locked():
        LOCK.release()


def waits_for_pipe():
    os.read(PIPE[0], 1)


def ends_pipe():
    os.write(PIPE[1], b"!")


def waits_for_socket():
    SERVER.recv(1)


def ends_socket():
    CLIENT.send(b"!")


def waits_for_poll():
    select.select([POLLED[0]], [], [])
    os.read(POLLED[0], 1)


def ends_poll():
    os.write(POLLED[1], b"!")


def waits_for_file():
    fcntl.flock(FILES[0], fcntl.LOCK_EX)


def ends_file():
    fcntl.flock(FILES[1], fcntl.LOCK_UN)


def again(wait):
    while True:
        wait()


def now_and_then(end):
    while True:
        time.sleep(PERIOD)
        end()


def file_again():
    while True:
        waits_for_file()
        fcntl.flock(FILES[0], fcntl.LOCK_UN)
        # The other one takes it meanwhile.
        time.sleep(PERIOD / 2)


def file_now_and_then():
    while True:
        fcntl.flock(FILES[1], fcntl.LOCK_EX)
        time.sleep(PERIOD)
        ends_file()
        time.sleep(PERIOD / 8)


def spins():
    while True:
        pass


def start(work, *arguments):
    threading.Thread(target=work, args=arguments, daemon=True).start()


def connection():
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    client = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    server = _socket.socket(fileno=listener._accept()[0])
    for side in (client, server):
        side.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    return server, client


if sys.argv[1] == "gil":
    start(spins)
    start(spins)
else:
    LOCK = threading.Lock()
    LOCK.acquire()
    PIPE = os.pipe()
    POLLED = os.pipe()
    SERVER, CLIENT = connection()
    FILES = [os.open("/tmp/locked", os.O_RDWR | os.O_CREAT) for _ in range(2)]
    start(again, sleeps)
    for wait, end in (
        (waits_for_lock, ends_lock),
        (waits_for_pipe, ends_pipe),
        (waits_for_socket, ends_socket),
        (waits_for_poll, ends_poll),
    ):
        start(again, wait)
        start(now_and_then, end)
    start(file_again)
    start(file_now_and_then)
with open("/tmp/" + sys.argv[1], "w"):
    pass
time.sleep(600)
