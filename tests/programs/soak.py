"""What happens on a host in days, within minutes. Python 3.8 to 3.15, standard library only.

Argument: what this process does, until its standard input ends: `threads` start and end, `codes` are
made and freed, processes fork (`forks`), of which some execute another program, or it only waits
(`waits`); `short` ends by itself. `forks` says at its end how many processes forked, and how many of
them executed another program.
"""
import os
import select
import sys
import threading
import time


def spins(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(range(200))


def goes_on(seconds):
    """Waits, and says whether there is more to do."""
    return not select.select([0], [], [], seconds)[0]


def short():
    spins(0.03)


def threads():
    while goes_on(0.1):
        started = [threading.Thread(target=spins, args=(0.001,)) for _ in range(4)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()


def codes():
    number = 0
    while goes_on(0.02):
        number += 1
        source = "def made_%d(work):\n    work(0.001)\n" % number
        names = {}
        exec(compile(source, "made_%d.py" % number, "exec"), names)
        names["made_%d" % number](spins)


def forks():
    number = 0
    while goes_on(0.25):
        number += 1
        child = os.fork()
        if child == 0:
            spins(0.005)
            if number % 2:
                os.execv(sys.executable, [sys.executable, "-S", "-E", __file__, "short", "forked"])
            os._exit(0)
        os.waitpid(child, 0)
    print(number, (number + 1) // 2)


def waits():
    while goes_on(1):
        pass


globals()[sys.argv[1]]()
