"""Two threads that spin in two interpreters, each with a lock of its own. Python 3.12 on."""
import json
import sys

SPIN = """
import time
def spins_apart(until):
    while time.monotonic() < until:
        for _ in range(10000):
            pass
spins_apart(time.monotonic() + 1.2)
"""
SAID = {}
GO = threading.Event()
MADE = threading.Semaphore(0)


def make():
    """What runs code in a new interpreter."""
    if sys.version_info >= (3, 14):
        from concurrent import interpreters

        return interpreters.create().exec
    if sys.version_info >= (3, 13):
        import _interpreters

        number = _interpreters.create("isolated")
        return lambda code: _interpreters.exec(number, code)
    import _xxsubinterpreters

    number = _xxsubinterpreters.create(isolated=True)
    return lambda code: _xxsubinterpreters.run_string(number, code)


def works():
    # Up to Python 3.12 an interpreter has the thread state of the thread that made it.
    run = make()
    MADE.release()
    GO.wait()
    page = opens()
    first = reading(page)
    failed = run(SPIN)
    assert failed is None, failed
    last = reading(page)
    facts = [after - before for before, after in zip(first, last)]
    SAID[threading.current_thread().name] = [threading.get_native_id()] + facts


threads = []
for index in range(2):
    thread = threading.Thread(target=works, name="apart-%d" % index)
    threads.append(thread)
    thread.start()
for thread in threads:
    MADE.acquire()
print("ready", flush=True)
sys.stdin.readline()
GO.set()
for thread in threads:
    thread.join()
print(json.dumps(SAID), flush=True)
sys.stdin.readline()
