"""What a thread says of itself, by clocks that are not pyscry's. Put in front of a program, whose
last argument is a descriptor of /proc: a root of an interpreter may have none.
"""
import os
import sys
import threading
import time

PROC = int(sys.argv[-1])


def opens():
    """The calling thread's own page of the scheduler's statistics."""
    path = "self/task/%d/schedstat" % threading.get_native_id()
    return os.open(path, os.O_RDONLY, dir_fd=PROC)


def reading(page):
    """The moment, the CPU time of this thread, and how long it waited for a CPU; nanoseconds.

    The page is read in one call, which lets the interpreter's lock go behind the clocks: what it
    takes to get the lock back is in none of the three.
    """
    return time.monotonic_ns(), time.thread_time_ns(), int(os.pread(page, 99, 0).split()[1])
