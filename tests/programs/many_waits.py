"""Waits in one way only, timed by its own clock. Python 3.8 to 3.15.

Argument: sleep, lock or pipe. Once its standard input ends, it works and waits in turns, and says what
it spent in nanoseconds: `MODE PID WAITED WHOLE`.
"""
import os
import sys
import threading
import time

MODE = sys.argv[1]
TURNS = 25
READ, WRITE = os.pipe()
ASKED, ASK = os.pipe()
LOCK = threading.Lock()


# The clocks are read inside of the functions: a thread that is preempted between two of them is in
# none.


def waits_for_sleep():
    start = time.monotonic_ns()
    time.sleep(0.02)
    return time.monotonic_ns() - start


def waits_for_lock():
    start = time.monotonic_ns()
    LOCK.acquire(timeout=0.02)
    return time.monotonic_ns() - start


def waits_for_pipe():
    start = time.monotonic_ns()
    os.read(READ, 1)
    return time.monotonic_ns() - start


def writes():
    """A child that writes a moment after it is asked to, until the parent is gone."""
    os.close(ASK)
    while os.read(ASKED, 1):
        time.sleep(0.02)
        os.write(WRITE, b"x")
    os._exit(0)


def works():
    until = time.monotonic_ns() + 3000000
    while time.monotonic_ns() < until:
        sum(range(500))


def waits_for_go():
    """How long a recording went on before it is seen in here."""
    os.write(1, b"ready\n")
    os.read(0, 1)


LOCK.acquire()
if MODE == "pipe":
    if os.fork() == 0:
        writes()
wait = globals()["waits_for_" + MODE]
waits_for_go()
begin = time.monotonic_ns()
waited = 0
for _ in range(TURNS):
    works()
    if MODE == "pipe":
        os.write(ASK, b"x")
    waited += wait()
whole = time.monotonic_ns() - begin
os.write(1, ("%s %d %d %d\n" % (MODE, os.getpid(), waited, whole)).encode())
# Nothing of it ends before the recording does.
time.sleep(60)
