"""Threads that do something between two readings of what they say of themselves (readings.py), when the
program is told to go on. Put in front of a program, behind that one.
"""
import json

SAID = {}
GO = threading.Event()


def reads_last(page):
    """What a thread waits in here, it waits for behind its last reading."""
    return reading(page)


def works(work):
    """Does it, and keeps the thread's number and the differences."""
    GO.wait()
    page = opens()
    first = reading(page)
    work()
    last = reads_last(page)
    facts = [after - before for before, after in zip(first, last)]
    SAID[threading.current_thread().name] = [threading.get_native_id()] + facts


def start(name, work):
    """A thread that does so, with a number of its own in its name."""
    thread = threading.Thread(target=work, name=name)
    thread.start()
    return thread


def is_told():
    print("ready", flush=True)
    sys.stdin.readline()
    GO.set()
