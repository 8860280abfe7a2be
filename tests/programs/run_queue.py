import hashlib
import json
import sys

CPUS = int(sys.argv[1])
DATA = bytes(1 << 20)
SAID = {}
GO = threading.Event()


def competes():
    """Hashing lets the interpreter's lock go."""
    GO.wait()
    page = opens()
    first = reading(page)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        hashlib.sha256(DATA).digest()
    last = reading(page)
    facts = [after - before for before, after in zip(first, last)]
    SAID[threading.current_thread().name] = [threading.get_native_id()] + facts


os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])
threads = [threading.Thread(target=competes, name="competes-%d" % number) for number in range(8)]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.readline()
GO.set()
for thread in threads:
    thread.join()
print(json.dumps(SAID), flush=True)
sys.stdin.readline()
