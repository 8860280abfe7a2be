"""Waits in functions of known names, timed by its own clock.

Threads: "scripted" waits by a script when told, "blocked" is blocked all the time, "pinned-0" and
"pinned-1" spin on one CPU (mode "spin").
"""
import json
import os
import queue
import sys
import threading
import time

MODE = sys.argv[1]
LOCK = threading.Lock()
QUEUE = queue.Queue()
READ, WRITE = os.pipe()
SPENT = {}


def clocks():
    """Time that passed, and CPU time of this thread, in nanoseconds."""
    return time.monotonic_ns(), time.thread_time_ns()


def spent(name, begin):
    end = clocks()
    all_of_it = SPENT.setdefault(name, [0, 0])
    for index in range(2):
        all_of_it[index] += end[index] - begin[index]


# The clocks are read inside of the functions: a thread that is preempted between two of them is in
# none.


def sleeps_1_ms():
    begin = clocks()
    time.sleep(0.001)
    spent("sleeps_1_ms", begin)


def sleeps_7_ms():
    begin = clocks()
    time.sleep(0.007)
    spent("sleeps_7_ms", begin)


def sleeps_50_ms():
    begin = clocks()
    time.sleep(0.05)
    spent("sleeps_50_ms", begin)


def waits_for_lock():
    begin = clocks()
    with LOCK:
        pass
    spent("waits_for_lock", begin)


def waits_for_queue():
    begin = clocks()
    QUEUE.get()
    spent("waits_for_queue", begin)


def waits_for_pipe():
    begin = clocks()
    os.read(READ, 1)
    spent("waits_for_pipe", begin)


def helper(orders):
    while True:
        what = orders.get()
        if what == "lock":
            LOCK.acquire()
            READY.set()
            time.sleep(0.02)
            LOCK.release()
        elif what == "queue":
            time.sleep(0.02)
            QUEUE.put(1)
        elif what == "pipe":
            time.sleep(0.02)
            os.write(WRITE, b"x")


READY = threading.Event()


def script():
    orders = queue.Queue()
    threading.Thread(target=helper, args=(orders,), name="helper", daemon=True).start()
    cpus = sorted(os.sched_getaffinity(0))
    for turn in range(30):
        # From CPU to CPU: nothing may be lost on the way.
        os.sched_setaffinity(0, {cpus[turn % len(cpus)]})
        for _ in range(4):
            sleeps_1_ms()
        sleeps_7_ms()
        sleeps_50_ms()
        READY.clear()
        orders.put("lock")
        READY.wait()
        waits_for_lock()
        orders.put("queue")
        waits_for_queue()
        orders.put("pipe")
        waits_for_pipe()


def scripted():
    print("ready", flush=True)
    sys.stdin.readline()
    script()
    print(json.dumps(SPENT), flush=True)
    sys.stdin.readline()


def blocked_forever():
    threading.Event().wait()


def spin():
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    while True:
        pass


if MODE == "spin":
    # Two processes on one CPU: each of them can run half of the time.
    if os.fork() == 0:
        parent = os.getppid()
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
        while os.getppid() == parent:
            for _ in range(100000):
                pass
        os._exit(0)
    print("ready", flush=True)
    spin()
threading.Thread(target=blocked_forever, name="blocked", daemon=True).start()
scripted()
