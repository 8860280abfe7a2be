"""Two threads on one CPU that wait for each other at a given rate of switches.

Arguments: switches per second (0: as many as it can), the depth of the stacks, maybe `first` for the
first CPU instead of the last one, and the file of the counter of round trips. Between two round trips there is work, which is chosen at the start so
that the rate comes out.
"""

import os
import resource
import sys
import threading
import time

import bench_common


class PingPong:
    """The two threads."""

    def __init__(self, depth, done):
        self.done = done
        self.work = 0
        self.there = os.pipe()
        self.back = os.pipe()
        for side in (self.ping, self.pong):
            arguments = ("distinct", depth, side)
            threading.Thread(
                target=bench_common.call_deep, args=arguments, daemon=True
            ).start()

    def ping(self):
        """Sends, waits for the answer, works."""
        done = self.done
        there = self.there[1]
        back = self.back[0]
        while True:
            os.write(there, b"!")
            os.read(back, 1)
            for _ in range(self.work):
                pass
            done[0] += 1

    def pong(self):
        """Waits and answers."""
        there = self.there[0]
        back = self.back[1]
        while True:
            os.read(there, 1)
            os.write(back, b"!")

    def measure(self, work):
        """Seconds and switches of a round trip with that much work after it."""
        self.work = work
        time.sleep(0.1)
        begin, trips, switches = time.monotonic(), self.done[0], count_switches()
        time.sleep(0.4)
        seconds = time.monotonic() - begin
        trips, switches = max(self.done[0] - trips, 1), count_switches() - switches
        return seconds / trips, switches / trips

    def find_work(self, rate):
        """Finds the work after round trips with which there are that many switches a second."""
        free, _ = self.measure(0)
        work = 1000
        for _ in range(4):
            seconds, switches = self.measure(work)
            each = max((seconds - free) / work, 1e-9)
            work = max(1, int((switches / rate - free) / each))
        self.work = work


def count_switches():
    """How often threads of this process were switched out."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_nvcsw + used.ru_nivcsw


def main():
    """Starts, finds the rate, and goes on for ever."""
    rate, depth, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[-1]
    choose = min if sys.argv[3] == "first" else max
    # Between two CPUs the time of a wakeup is that of an idle CPU, and differs by the machine. And
    # who is woken must not interrupt who woke it, as it may or may not: a round trip is two
    # switches then.
    os.sched_setaffinity(0, {choose(os.sched_getaffinity(0))})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    pair = PingPong(depth, bench_common.counter(path))
    if rate:
        pair.find_work(rate)
    bench_common.ready()
    while True:
        bench_common.wait_for_line()


main()
