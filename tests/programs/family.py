"""Families of processes, each of whose members uses the CPU in a function of its own name. Python
3.8 to 3.15.

Arguments: a mode, the first number of a function's name, and what the mode needs. Each member says
`MODE-OR-ROLE NUMBER PID` once it is at work, and ends with its parent.
"""
import multiprocessing
import os
import select
import subprocess
import sys

MODE, NUMBER = sys.argv[1], int(sys.argv[2])
SOURCE = """\
def work_%d(goes_on):
    while goes_on():
        sum(range(500))
"""


def say(role, number):
    # In one piece: others write into the same pipe.
    os.write(1, ("%s %d %d\n" % (role, number, os.getpid())).encode())


def function(number):
    names = {}
    exec(compile(SOURCE % number, "work_%d.py" % number, "exec"), names)
    return names["work_%d" % number]


def work(number, role, parent=None):
    """Works until the parent is gone, or for ever."""
    own = function(number)
    say(role, number)
    own(lambda: parent is None or os.getppid() == parent)
    os._exit(0)


def until_told(number, role):
    """Works until there is a line; the end of the input is the process's."""
    own = function(number)
    say(role, number)
    own(lambda: not select.select([0], [], [], 0)[0])
    if not os.read(0, 100):
        os._exit(0)
    return own


def fork(number, role, then=None):
    own = os.getpid()
    if os.fork() == 0:
        (then or work)(number, role, own)


def prefork():
    """A server with workers, of which one comes while it runs."""
    for worker in (1, 2):
        fork(NUMBER + worker, "worker")
    own = until_told(NUMBER, "server")
    fork(NUMBER + 3, "late")
    own(lambda: True)


def nested():
    """A child and a grandchild; later an interpreter of its own below a shell."""

    def child(number, role, parent):
        fork(number + 1, "grandchild")
        work(number, role, parent)

    fork(NUMBER + 1, "child", child)
    own = until_told(NUMBER, "parent")
    command = [sys.executable, "-S", __file__, "single", str(NUMBER + 3)]
    subprocess.Popen(["sh", "-c", '"$@" & wait', "sh"] + command, stdin=subprocess.PIPE)
    own(lambda: True)


def multi():
    """Workers of multiprocessing, by the way that the third argument names."""
    context = multiprocessing.get_context(sys.argv[3])
    for worker in (1, 2):
        args = (NUMBER + worker, "worker", os.getpid())
        context.Process(target=work, args=args, daemon=True).start()
    work(NUMBER, "parent")


def execs():
    """Works, and becomes another program once there is a line."""
    until_told(NUMBER, "before")
    os.execv(sys.argv[3], sys.argv[3:])


def single():
    """One process."""
    work(NUMBER, "single", os.getppid())


if __name__ == "__main__":
    {"prefork": prefork, "nested": nested, "multi": multi, "execs": execs, "single": single}[MODE]()
