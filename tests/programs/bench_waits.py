"""Waits of five kinds, timed by the program itself.

Argument: seconds. They begin with the first line on standard input; at the end the nanoseconds in
each kind of wait are printed. What stands around the waits is kept out of the functions that are
timed.
"""

import queue
import sys
import threading
import time

import bench_common

START = threading.Event()
LOCK = threading.Lock()
LOCKED = threading.Semaphore(0)
QUEUE = queue.Queue()


def sleep_1ms():
    """A short sleep."""
    begin = time.monotonic_ns()
    time.sleep(0.001)
    return time.monotonic_ns() - begin


def sleep_7ms():
    """A longer sleep."""
    begin = time.monotonic_ns()
    time.sleep(0.007)
    return time.monotonic_ns() - begin


def sleep_50ms():
    """A long sleep."""
    begin = time.monotonic_ns()
    time.sleep(0.05)
    return time.monotonic_ns() - begin


def wait_for_lock():
    """Waits for a lock that another thread holds."""
    begin = time.monotonic_ns()
    LOCK.acquire()
    waited = time.monotonic_ns() - begin
    LOCK.release()
    return waited


def wait_on_queue():
    """Waits for another thread's item."""
    begin = time.monotonic_ns()
    QUEUE.get()
    return time.monotonic_ns() - begin


def hold():
    """Holds the lock now and then, for a while."""
    while True:
        with LOCK:
            LOCKED.release()
            time.sleep(0.004)
        time.sleep(0.001)


def produce():
    """Puts an item into the queue now and then."""
    while True:
        QUEUE.put(None)
        time.sleep(0.003)


def nothing():
    """What most kinds of wait need before them."""


def run(prepare, wait, seconds, totals, left):
    """Waits again and again."""
    START.wait()
    until = time.monotonic() + seconds
    total = 0
    while time.monotonic() < until:
        prepare()
        total += wait()
    totals[wait.__name__] = total
    left.release()
    threading.Event().wait()


def main():
    """One round."""
    seconds = float(sys.argv[1])
    totals, left = {}, threading.Semaphore(0)
    kinds = [
        (nothing, sleep_1ms),
        (nothing, sleep_7ms),
        (nothing, sleep_50ms),
        (LOCKED.acquire, wait_for_lock),
        (nothing, wait_on_queue),
    ]
    for prepare, wait in kinds:
        arguments = (prepare, wait, seconds, totals, left)
        threading.Thread(target=run, args=arguments, daemon=True).start()
    bench_common.ready()
    bench_common.wait_for_line()
    for helper in (hold, produce):
        threading.Thread(target=helper, daemon=True).start()
    START.set()
    for _ in kinds:
        left.acquire()
    for name, total in totals.items():
        print("waited", name, total)
    print("done", flush=True)
    while True:
        bench_common.wait_for_line()


main()
