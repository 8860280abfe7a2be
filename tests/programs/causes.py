"""Waits of every kind, each in a thread of its own, timed by its own clock.

Arguments: a mode, and names of functions below, separated by commas. `together`: once a line comes,
each of them waits a few times, in `timed`; then it is printed what each spent. `by turns`: the same,
one behind the other. `hold`: each of them begins to wait, and nothing ends it.

What ends a wait is another process wherever that can be: nobody holds this one's global lock then as
the thread comes back.
"""
import asyncio
import ctypes
import fcntl
import json
import mmap
import multiprocessing
import os
import queue
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

MODE = sys.argv[1]
NAMES = sys.argv[2].split(",")
HOLD = MODE == "hold"
# Seconds of one wait, and how many of them. Long, as each has a moment behind it in which another may
# have the global lock.
LONG = 0.25
# Of one that nobody else waits beside.
ALONE = 0.08
TURNS = 4
FILE_BYTES = 16 << 20
PAGE = 4096
LIBC = ctypes.CDLL(None, use_errno=True)
SPENT = {}
# What has to stay open.
KEPT = []


def clocks():
    """Time that passed, and CPU time of this thread, in nanoseconds."""
    return time.monotonic_ns(), time.thread_time_ns()


def timed(name, wait):
    # The clocks are read inside: a thread that is preempted between two calls is in none.
    begin = clocks()
    wait()
    end = clocks()
    all_of_it = SPENT.setdefault(name, [0, 0])
    for index in range(2):
        all_of_it[index] += end[index] - begin[index]


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Way:
    """How to wait once, and who ends it."""

    def __init__(self, wait, act=None, thread=False, turns=TURNS, long=LONG):
        self.wait = wait
        # Ends the wait; called `turns` times, `long` seconds apart, by another process or thread.
        self.act = act
        self.thread = thread
        self.turns = turns
        self.long = long
        # Called by who ends the waits, before all of them.
        self.helper_begins = lambda: None
        # Called by who waits, before all of them; the first is ended long after that.
        self.begins = lambda: None


# [gil]


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(1000):
            pass


def spins():
    return Way(lambda: spin(0.6), turns=1)


def spins_as_well():
    return spins()


def calls_back():
    """C code that calls back, and gets the lock anew for each call."""
    compare_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    compare = compare_type(lambda one, other: 0)
    numbers = (ctypes.c_int * 32)()

    def wait():
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            LIBC.qsort(numbers, 32, 4, compare)

    return Way(wait, turns=1)


# [lock]


def acquires_lock():
    lock = threading.Lock()
    lock.acquire()
    return Way(lock.acquire, lock.release, thread=True)


def acquires_with_timeout():
    lock = threading.Lock()
    lock.acquire()
    return Way(lambda: lock.acquire(timeout=3600 if HOLD else LONG))


def waits_for_condition():
    condition = threading.Condition()

    def wait():
        with condition:
            condition.wait()

    def act():
        with condition:
            condition.notify()

    return Way(wait, act, thread=True)


def waits_for_event():
    event = threading.Event()

    def wait():
        event.wait()
        event.clear()

    return Way(wait, event.set, thread=True)


def gets_from_queue():
    items = queue.Queue()
    return Way(items.get, lambda: items.put(1), thread=True)


def acquires_multiprocessing_lock():
    lock = multiprocessing.Lock()
    lock.acquire()
    return Way(lock.acquire, lock.release)


def acquires_multiprocessing_semaphore():
    semaphore = multiprocessing.Semaphore(0)
    return Way(lambda: semaphore.acquire(timeout=60), semaphore.release)


def waits_for_semaphore():
    """One between processes, without a name."""
    memory = mmap.mmap(-1, PAGE)
    semaphore = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    KEPT.append(memory)
    checked(LIBC.sem_init(ctypes.c_void_p(semaphore), 1, 0))
    return Way(
        lambda: LIBC.sem_wait(ctypes.c_void_p(semaphore)),
        lambda: LIBC.sem_post(ctypes.c_void_p(semaphore)),
    )


def locked_file(lock, unlock):
    """The helper has the lock first."""
    path = new_path()
    ours, theirs = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2)]
    os.unlink(path)

    way = Way(lambda: lock(ours), lambda: unlock(theirs), turns=1, long=0.3)
    way.helper_begins = lambda: lock(theirs)
    return way


def locks_with_flock():
    return locked_file(
        lambda file: fcntl.flock(file, fcntl.LOCK_EX),
        lambda file: fcntl.flock(file, fcntl.LOCK_UN),
    )


def locks_with_lockf():
    return locked_file(
        lambda file: fcntl.lockf(file, fcntl.LOCK_EX),
        lambda file: fcntl.lockf(file, fcntl.LOCK_UN),
    )


# [sleep]


def sleeps():
    return Way(lambda: time.sleep(3600 if HOLD else LONG))


def selects_nothing():
    return Way(lambda: select.select([], [], [], 3600 if HOLD else LONG))


# [network]


def tcp_pair():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    one = socket.create_connection(listener.getsockname())
    other, _ = listener.accept()
    KEPT.extend([one, other])
    return one, other


def receives_tcp():
    one, other = tcp_pair()
    return Way(lambda: one.recv(1), lambda: other.send(b"x"))


def reads_into_from_tcp():
    one, other = tcp_pair()
    file = one.makefile("rb", buffering=0)
    return Way(lambda: file.readinto(bytearray(1)), lambda: other.send(b"x"))


def sends_tcp():
    one, other = tcp_pair()
    # More than fits on the way, so that it cannot return before most of it was received.
    data = bytes(1 << 21)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)

    def act():
        left = len(data)
        while left:
            left -= len(other.recv(left))

    return Way(lambda: one.sendall(data), act)


def accepts_tcp():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(8)
    return Way(lambda: KEPT.append(listener.accept()),
               lambda: KEPT.append(socket.create_connection(listener.getsockname())))


def connects_tcp():
    """The queue of the listener is full; the kernel tries again after a second."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    KEPT.append(socket.create_connection(listener.getsockname()))
    client = socket.socket()
    KEPT.append(client)
    return Way(lambda: client.connect(listener.getsockname()),
               lambda: KEPT.append(listener.accept()), turns=1)


def connects_unix():
    listener = socket.socket(socket.AF_UNIX)
    path = "\0pyscry-causes-%d" % os.getpid()
    listener.bind(path)
    listener.listen(0)
    # It has room for one more than that.
    first = socket.socket(socket.AF_UNIX)
    first.connect(path)
    KEPT.append(first)

    def wait():
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        KEPT.append(client)

    return Way(wait, lambda: KEPT.append(listener.accept()))


def receives_udp():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return Way(lambda: one.recvfrom(1), lambda: other.sendto(b"x", one.getsockname()))


def receives_from_socketpair():
    one, other = socket.socketpair()
    KEPT.extend([one, other])
    return Way(lambda: one.recv(1), lambda: other.send(b"x"))


def reads_socket_with_os_read():
    one, other = socket.socketpair()
    KEPT.extend([one, other])
    return Way(lambda: os.read(one.fileno(), 1), lambda: other.send(b"x"))


def receives_multiprocessing_pipe():
    """It is a pair of sockets."""
    one, other = multiprocessing.Pipe()
    return Way(one.recv, lambda: other.send(1))


# [disk]


def new_path():
    """On the disk, beside this file."""
    return tempfile.mktemp(dir=os.path.dirname(os.path.abspath(__file__)))


def new_file(flags=os.O_RDWR):
    """A file of [`FILE_BYTES`], all of it on the disk, without a name."""
    path = new_path()
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    piece = os.urandom(1 << 20)
    for place in range(0, FILE_BYTES, len(piece)):
        os.pwrite(file, piece, place)
    os.fsync(file)
    os.close(file)
    file = os.open(path, flags)
    os.unlink(path)
    return file


def syncs_file():
    file = new_file()
    data = os.urandom(1 << 20)

    def wait():
        for turn in range(40):
            os.pwrite(file, data[:1 << 16], turn << 16)
            os.fsync(file)

    return Way(wait, turns=1)


def drop_pages(file):
    # This waits itself, for every CPU to give up the pages that it has at hand.
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)


def reads_dropped_pages():
    file = new_file()

    def wait():
        for place in range(0, FILE_BYTES, FILE_BYTES // 512):
            os.pread(file, PAGE, place)

    way = Way(wait, turns=1)
    way.begins = lambda: drop_pages(file)
    return way


def reads_directly():
    file = new_file(os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, 1 << 16)

    def wait():
        for place in range(0, FILE_BYTES, 1 << 16):
            os.preadv(file, [buffer], place)

    return Way(wait, turns=2)


# [pipe]


def reads_pipe():
    reader, writer = os.pipe()
    return Way(lambda: os.read(reader, 1), lambda: os.write(writer, b"x"))


def writes_full_pipe():
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, 1032)  # F_GETPIPE_SZ
    os.write(writer, bytes(size))
    # It takes no more than one page at a time, once a page is free.
    return Way(lambda: os.write(writer, bytes(PAGE)), lambda: os.read(reader, PAGE))


def opens_fifo():
    path = new_path()
    os.mkfifo(path)

    def act():
        os.close(os.open(path, os.O_WRONLY))

    return Way(lambda: os.close(os.open(path, os.O_RDONLY)), act, turns=1, long=0.3)


# [poll]


def readable(wait):
    reader, writer = os.pipe()

    def wait_and_read():
        wait()
        os.read(reader, 1)

    wait = wait(reader)
    return Way(wait_and_read, lambda: os.write(writer, b"x"))


def selects():
    return readable(lambda reader: lambda: select.select([reader], [], []))


def polls():
    def wait(reader):
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        return poll.poll

    return readable(wait)


def polls_with_timeout():
    poll = select.poll()
    poll.register(os.pipe()[0], select.POLLIN)
    return Way(lambda: poll.poll(3600_000 if HOLD else int(LONG * 1000)))


def polls_epoll():
    def wait(reader):
        epoll = select.epoll()
        epoll.register(reader, select.EPOLLIN)
        return epoll.poll

    return readable(wait)


def sleeps_in_asyncio():
    loop = asyncio.new_event_loop()
    return Way(lambda: loop.run_until_complete(asyncio.sleep(3600 if HOLD else LONG)))


def reads_eventfd():
    events = checked(LIBC.eventfd(0, 0))
    return Way(lambda: os.read(events, 8), lambda: os.write(events, struct.pack("Q", 1)))


def reads_timerfd():
    timer = checked(LIBC.timerfd_create(1, 0))

    def wait():
        length = 3600 if HOLD else 0
        spec = struct.pack("4q", 0, 0, length, int(LONG * 1e9))
        checked(LIBC.timerfd_settime(timer, 0, spec, None))
        os.read(timer, 8)

    return Way(wait)


# [child]

# One that ends with this process, at the latest.
# Long beside what it takes to start it, which waits at a pipe.
CHILD = ["/bin/cat"] if HOLD else ["/bin/sleep", "0.9"]


def stdin_of_child():
    reader, writer = os.pipe()
    KEPT.append(writer)
    return reader


def waits_for_child():
    stdin = stdin_of_child()

    def wait():
        actions = [(os.POSIX_SPAWN_DUP2, stdin, 0)]
        child = os.posix_spawn(CHILD[0], CHILD, os.environ, file_actions=actions)
        os.waitpid(child, 0)

    return Way(wait, turns=1)


def runs_child():
    stdin = stdin_of_child()
    return Way(lambda: subprocess.run(CHILD, stdin=stdin, check=True), turns=1)


def waits_for_popen():
    stdin = stdin_of_child()
    child = []
    way = Way(lambda: child[0].wait(), turns=1)
    way.begins = lambda: child.append(subprocess.Popen(CHILD, stdin=stdin))
    return way


# [page fault]


def touches_dropped_pages():
    file = new_file()

    memory = mmap.mmap(file, FILE_BYTES, prot=mmap.PROT_READ)
    memory.madvise(mmap.MADV_RANDOM)

    def wait():
        for place in range(0, FILE_BYTES, FILE_BYTES // 512):
            memory[place]

    way = Way(wait, turns=1)
    way.begins = lambda: drop_pages(file)
    return way


def touches_missing_page():
    """Somebody else provides the memory (`ioctl_userfaultfd(2)`)."""
    faults = checked(LIBC.syscall(323, os.O_CLOEXEC))
    api = bytearray(struct.pack("3Q", 0xAA, 0, 0))
    fcntl.ioctl(faults, 0xC018AA3F, api)
    memory = mmap.mmap(-1, 64 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    KEPT.append(memory)
    # UFFDIO_REGISTER, missing pages.
    fcntl.ioctl(faults, 0xC020AA00, bytearray(struct.pack("4Q", start, 64 * PAGE, 1, 0)))
    place = iter(range(0, 64 * PAGE, PAGE))

    def act():
        address = struct.unpack_from("Q", os.read(faults, 32), 16)[0]
        if HOLD:
            print("ready", flush=True)
            time.sleep(3600)
        time.sleep(ALONE)
        # UFFDIO_ZEROPAGE
        zero = bytearray(struct.pack("2Q2Q", address & -PAGE, PAGE, 0, 0))
        fcntl.ioctl(faults, 0xC020AA04, zero)

    return Way(lambda: memory[next(place)], act, long=0)


# [stopped]


def stops_itself():
    reader, writer = os.pipe()
    process = os.getpid()

    def act():
        os.read(reader, 1)
        time.sleep(ALONE)
        os.kill(process, signal.SIGCONT)

    def wait():
        os.write(writer, b"x")
        # To this thread, so that it does not come back from the call before it stops.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    return Way(wait, act, long=0)


def is_traced():
    """Stopped by a tracer while it spins."""
    tids = []
    begun, begin = os.pipe()
    done, finish = os.pipe()

    def ptrace(request, tid):
        arguments = [ctypes.c_long(argument) for argument in (request, tid, 0, 0)]
        return checked(LIBC.ptrace(*arguments))

    def act():
        tid = int(os.read(begun, 32))
        ptrace(0x4206, tid)  # PTRACE_SEIZE
        ptrace(0x4207, tid)  # PTRACE_INTERRUPT
        os.waitpid(tid, 0x40000000)  # __WALL
        time.sleep(ALONE)
        ptrace(17, tid)  # PTRACE_DETACH
        os.write(finish, b"x")

    def wait():
        os.write(begin, b"%d" % threading.get_native_id())
        while not select.select([done], [], [], 0)[0]:
            pass
        os.read(done, 1)

    return Way(wait, act, long=0)


def spins_until_told():
    """Who tells, freezes or stops it before."""

    def wait():
        print("spins", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            pass

    return Way(wait, turns=1)


# [run queue]


def shares_cpu():
    """Two processes on one CPU."""
    cpu = {sorted(os.sched_getaffinity(0))[0]}

    def act():
        os.sched_setaffinity(0, cpu)
        spin(1)

    def wait():
        os.sched_setaffinity(0, cpu)
        spin(0.6)

    return Way(wait, act, turns=1, long=0)


# [other]


def waits_for_signal():
    return ended_by_signal(lambda: signal.sigwait([signal.SIGUSR1]), signal.SIGUSR1)


def pauses():
    return ended_by_signal(signal.pause, signal.SIGUSR2)


def ended_by_signal(wait, number):
    signal.signal(number, lambda number, frame: None)
    thread = []
    way = Way(wait, lambda: signal.pthread_kill(thread[0], number), thread=True)

    def begins():
        if number == signal.SIGUSR1:
            signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        thread.append(threading.get_ident())

    way.begins = begins
    return way


# All together


def helps(way, delay):
    time.sleep(delay)
    for _ in range(way.turns):
        time.sleep(way.long)
        way.act()


def start_helper(way, delay):
    """Returns what makes the helper begin."""
    if way.thread:
        thread = threading.Thread(target=helps, args=(way, delay), name="helper", daemon=True)
        return thread.start
    begun, begin = os.pipe()
    go, tell = os.pipe()
    if os.fork() == 0:
        try:
            LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            way.helper_begins()
            os.write(begin, b"x")
            os.read(go, 1)
            helps(way, delay)
            # What it holds open may be what others wait at.
            time.sleep(3600)
        finally:
            os._exit(1)
    os.read(begun, 1)
    return lambda: os.write(tell, b"x")


def waits(name, way, gate, done):
    gate.wait()
    way.begins()
    for _ in range(way.turns):
        timed(name, way.wait)
    done.set()
    # A thread that is gone early has no name in the recording.
    time.sleep(3600)


def main():
    # Who holds the global lock and is preempted, makes the others wait for it. What these do is
    # to wait, and they take nothing from anybody.
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    ways = {name: globals()[name]() for name in NAMES}
    helpers = []
    for index, way in enumerate(ways.values()):
        # Not all at the same moment: each who comes back needs the global lock for a moment.
        delay = index * 0.006 if MODE == "together" else 0
        helpers.append(start_helper(way, delay) if way.act else lambda: None)
    gates = []
    dones = []
    for name, way in ways.items():
        gates.append(threading.Event())
        dones.append(threading.Event())
        arguments = (name, way, gates[-1], dones[-1])
        threading.Thread(target=waits, args=arguments, name=name, daemon=True).start()
    if HOLD:
        if "touches_missing_page" in NAMES:
            helpers[0]()
        else:
            print("ready", flush=True)
        for gate in gates:
            gate.set()
        time.sleep(0.2)
        # Where a thread holds the global lock, this is not reached.
        dones[0].wait()
    print("ready", flush=True)
    sys.stdin.readline()
    for done, gate, helper in zip(dones, gates, helpers):
        helper()
        gate.set()
        if MODE == "by turns":
            done.wait()
    for done in dones:
        done.wait()
    print(json.dumps(SPENT), flush=True)
    sys.stdin.readline()


main()
