import hashlib

MODE = sys.argv[1]
STOP = threading.Event()
# Hashing it takes much longer than what is done around it with the lock.
DATA = bytes(1 << 26)


def turns():
    """Ten thousand turns."""
    for _ in range(10000):
        pass


def spins():
    while not STOP.is_set():
        turns()


def holds_long():
    """`sum` does not let the lock go."""
    while not STOP.is_set():
        sum(range(2000000))


def light():
    while not STOP.is_set():
        for _ in range(100):
            pass
        time.sleep(0.002)


def hashes():
    """Without the lock."""
    while not STOP.is_set():
        hashlib.sha256(DATA).digest()


HELD = [0]


def half():
    """Holds the lock half of the time, by its own clock."""
    while not STOP.is_set():
        begin = time.monotonic_ns()
        while time.monotonic_ns() < begin + 4000000:
            pass
        took = time.monotonic_ns() - begin
        HELD[0] += took
        time.sleep(took / 1e9)


THREADS = {
    "spin": 4 * [spins],
    "long": [holds_long] + 3 * [light],
    "release": [hashes, half],
}


def main():
    threads = [
        start("%s-%d" % (work.__name__, index), lambda work=work: works(work))
        for index, work in enumerate(THREADS[MODE])
    ]
    is_told()
    sys.stdin.readline()
    STOP.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"threads": SAID, "held": HELD[0], "pid": os.getpid()}), flush=True)
    sys.stdin.readline()


main()
