"""Works without a pause below a deep stack, beside threads that wait.

Arguments: distinct or recursion, the depth, the number of waiting threads, and the file of the
counter of units of work.
"""

import sys

import bench_common


def main():
    """Works for ever."""
    kind, depth, idle, path = sys.argv[1:]
    done = bench_common.counter(path)

    def work():
        while True:
            total = 0
            for number in range(300):
                total += number * number
            done[0] += 1

    bench_common.end_with_input()
    bench_common.start_idle(int(idle))
    bench_common.ready()
    bench_common.call_deep(kind, int(depth), work)


main()
