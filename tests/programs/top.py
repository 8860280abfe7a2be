"""Of the CPU time of `busy`, three quarters are in `f` and one in `g`: so many more times round its loop
goes `f`. A second thread, `waiter`, waits. With seconds as an argument: ends with 5 when so much CPU
time was used, and says how much the main thread had."""

import signal
import sys
import threading
import time


def f():
    x = 0
    for i in range(30000):
        x += i
    return x


def g():
    x = 0
    for i in range(10000):
        x += i
    return x


def busy(seconds):
    while seconds is None or time.thread_time() < seconds:
        f()
        g()


def waits():
    while True:
        time.sleep(0.01)


signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(7))
threading.Thread(target=waits, name="waiter", daemon=True).start()
print("ready", flush=True)
busy(float(sys.argv[1]) if len(sys.argv) > 1 else None)
print(time.thread_time(), flush=True)
sys.exit(5)
