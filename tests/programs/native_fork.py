"""A process whose child maps a library of its own, the first argument, and spins in it. The parent
spins in zlib meanwhile."""
import ctypes
import os
import sys
import time
import zlib


def child():
    # The parent's mappings are known by then.
    time.sleep(0.5)
    library = ctypes.CDLL(sys.argv[1])
    library.on_its_own()


def parent():
    data = b"abcdefgh" * 100000
    while True:
        zlib.compress(data)


print("ready", flush=True)
sys.stdin.readline()
# Sampled before it makes the copy.
end = time.monotonic() + 1
while time.monotonic() < end:
    pass
if os.fork() == 0:
    child()
parent()
