"""Two threads that spin in two interpreters, each with a lock of its own. Python 3.12 on."""
SPIN = """
import time
def spins_apart(until):
    while time.monotonic() < until:
        for _ in range(10000):
            pass
spins_apart(time.monotonic() + 1.2)
"""
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


def runs_apart():
    # Up to Python 3.12 an interpreter has the thread state of the thread that made it.
    run = make()
    MADE.release()

    def spins():
        failed = run(SPIN)
        assert failed is None, failed

    works(spins)


threads = [start("apart-%d" % index, runs_apart) for index in range(2)]
for thread in threads:
    MADE.acquire()
is_told()
for thread in threads:
    thread.join()
print(json.dumps(SAID), flush=True)
sys.stdin.readline()
