"""Threads that fight for the lock of the interpreter.

Arguments: threads and seconds. They begin with the first line on standard input; before and after
it, nothing runs.
"""

import sys
import threading
import time

import bench_common


def fight(start, seconds, left):
    """Works from the start for a while, then waits for ever."""
    start.wait()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(1000):
            pass
    left.release()
    threading.Event().wait()


def main():
    """One round."""
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    start, left = threading.Event(), threading.Semaphore(0)
    for _ in range(threads):
        threading.Thread(
            target=fight, args=(start, seconds, left), daemon=True
        ).start()
    bench_common.ready()
    bench_common.wait_for_line()
    start.set()
    for _ in range(threads):
        left.acquire()
    print("done", flush=True)
    while True:
        bench_common.wait_for_line()


main()
