# One thread for each state. The lock's holder waits in C code that does not let go of it, so that
# nothing changes any more.
import ctypes
import os
import socket
import sys
import threading
import time

# Who has the interpreter's lock lets go of it to wait, and for nothing else.
sys.setswitchinterval(1000)
pair = socket.socketpair()
lock = threading.Lock()
lock.acquire()


pipe = os.pipe()
libc = ctypes.CDLL(None)


def sleeps():
    time.sleep(1000)  # waits


def locks():
    lock.acquire()  # waits


def receives():
    pair[0].recv(1)  # waits


def reads():
    os.read(pipe[0], 1)  # waits


def wants_the_gil():
    while True:
        libc.usleep(500000)  # waits


def all_wait():
    frames = sys._current_frames()
    del frames[threading.get_ident()]
    with open(__file__) as program:
        lines = program.read().splitlines()
    own = [frame for frame in frames.values() if frame.f_code.co_filename == __file__]
    marked = [frame for frame in own if "# waits" in lines[frame.f_lineno - 1]]
    return len(marked) == 6


def holds_the_gil():
    while not all_wait():
        time.sleep(0.01)
    print("ready")
    ctypes.PyDLL(None).sleep(1000)


for target in [sleeps, locks, receives, reads, wants_the_gil, holds_the_gil]:
    threading.Thread(target=target, name=target.__name__, daemon=True).start()
lock.acquire()  # waits
