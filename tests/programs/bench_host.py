"""One of many programs that want the CPUs, each in turns of a millisecond, woken by a timer.

Arguments: the file of all counters of units of work, and which of them is this one's.
"""

import mmap
import sys
import time

import bench_common


def work():
    """A unit of work, about 20 us."""
    total = 0
    for number in range(300):
        total += number * number
    return total


def turn(done, own):
    """As much as a request takes."""
    for _ in range(50):
        work()
        done[own] += 1


def main():
    """Works for ever."""
    path, own = sys.argv[1:]
    with open(path, "r+b") as file:
        done = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
    bench_common.end_with_input()
    bench_common.ready()
    while True:
        turn(done, int(own))
        time.sleep(0.005)


main()
