import hashlib

CPUS = int(sys.argv[1])
DATA = bytes(1 << 20)


def hashes():
    until = time.monotonic() + 2
    while time.monotonic() < until:
        hashlib.sha256(DATA).digest()


def competes():
    """Hashing lets the interpreter's lock go."""
    works(hashes)


os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])
threads = [start("competes-%d" % number, competes) for number in range(8)]
is_told()
for thread in threads:
    thread.join()
print(json.dumps(SAID), flush=True)
sys.stdin.readline()
