"""36 threads of three kinds: one works, four nap, 31 sleep.

Argument: seconds. They begin with the first line on standard input; before and after it, nothing
runs. Prints the kind of each thread and its id as the kernel knows it.
"""

import sys
import threading
import time

import bench_common

START = threading.Event()


def some_work(rounds):
    """Uses the CPU."""
    total = 0
    for number in range(rounds):
        total += number * number
    return total


def busy(until):
    """Works."""
    while time.monotonic() < until:
        some_work(1000)


def napper(until):
    """Works a little, and naps."""
    while time.monotonic() < until:
        some_work(5000)
        time.sleep(0.005)


def sleeper(until):
    """Sleeps."""
    while time.monotonic() < until:
        time.sleep(0.5)


def run(kind, seconds, named, left):
    """A thread of one kind."""
    named.append((kind.__name__, threading.get_native_id()))
    left.release()
    START.wait()
    kind(time.monotonic() + seconds)
    left.release()
    threading.Event().wait()


def main():
    """One round."""
    seconds = float(sys.argv[1])
    kinds = [busy] + 4 * [napper] + 31 * [sleeper]
    named, left = [], threading.Semaphore(0)
    for kind in kinds:
        arguments = (kind, seconds, named, left)
        threading.Thread(target=run, args=arguments, daemon=True).start()
    for _ in kinds:
        left.acquire()
    for name, tid in named:
        print("thread", name, tid)
    bench_common.ready()
    bench_common.wait_for_line()
    START.set()
    for _ in kinds:
        left.acquire()
    print("done", flush=True)
    while True:
        bench_common.wait_for_line()


main()
