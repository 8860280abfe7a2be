"""What the programs of `cargo xtask bench` share. Python 3.8 to 3.15, standard library only.

A program prints `ready` when it is, and ends when its standard input does: nothing stays behind
when the benchmark is interrupted.
"""

import mmap
import os
import sys
import threading


def counter(path):
    """A number in a file, at index 0 of what is returned, that others read while it grows."""
    with open(path, "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")


def ready():
    """Tells the benchmark that it can begin."""
    print("ready", flush=True)


def wait_for_line():
    """Waits for the benchmark to say something."""
    if not sys.stdin.readline():
        os._exit(0)


def end_with_input():
    """Ends the process when standard input ends, whatever the other threads do."""

    def watch():
        while sys.stdin.readline():
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def start_idle(threads):
    """Starts threads that wait for ever."""

    def idle():
        threading.Event().wait()

    for _ in range(threads):
        threading.Thread(target=idle, daemon=True).start()


def call_deep(kind, depth, work):
    """Calls `work` below `depth` frames: of as many functions (distinct), or of one (recursion)."""
    sys.setrecursionlimit(depth + 1000)
    if kind == "recursion":

        def recurse(left):
            if left > 1:
                recurse(left - 1)
            else:
                work()

        recurse(depth)
        return
    lines = []
    for level in range(depth - 1):
        lines.append("def level_%d():\n    level_%d()\n" % (level, level + 1))
    lines.append("def level_%d():\n    work()\n" % (depth - 1))
    names = {"work": work}
    exec(compile("".join(lines), "levels.py", "exec"), names)
    names["level_0"]()
