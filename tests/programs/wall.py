import json
import subprocess
import sys
import warnings

MODE = sys.argv[1]
# Threads and forks: nothing is done in the child.
warnings.simplefilter("ignore")
SAID = {}
TASKS = os.open("self/task", os.O_RDONLY, dir_fd=PROC)


def spins(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def mixes():
    """Runs and waits."""
    for _ in range(50):
        spins(0.002)
        time.sleep(0.008)


def forks():
    for _ in range(5):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        spins(0.01)
        time.sleep(0.05)


def launches():
    for _ in range(3):
        subprocess.run([sys.executable, "-S", "-c", "pass"], check=True)
        time.sleep(0.05)


def goes_on():
    while True:
        spins(0.004)
        time.sleep(0.004)


def is_blocked():
    threading.Event().wait()


class Lives(threading.Thread):
    """A thread that says when it began and ended: at the latest and at the earliest (inner), and
    at the earliest and at the latest (outer)."""

    def __init__(self, work):
        super().__init__(name=work.__name__, daemon=True)
        self.work = work
        self.facts = {"outer": [time.monotonic_ns(), None]}
        self.start()

    def run(self):
        page = opens()
        if self.work in (mixes, forks, launches):
            # From Linux 6.12 on, the scheduler may move a sleeping thread to another CPU and count
            # the rest of its sleep as time on a run queue (delayed dequeue).
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        self.facts["tid"] = threading.get_native_id()
        first = reading(page)
        self.facts["inner"] = [first[0], None]
        SAID[self.name] = self.facts
        self.work()
        last = reading(page)
        self.facts["inner"][1] = last[0]
        self.facts["cpu"], self.facts["delay"] = last[1:]

    def ends(self):
        self.join()
        # Up to Python 3.12 a thread is joined when it has no thread state any more, but still ends.
        while str(self.facts["tid"]) in os.listdir(TASKS):
            time.sleep(0.0005)
        self.facts["outer"][1] = time.monotonic_ns()


def say():
    SAID["main"] = {"tid": os.getpid(), "inner": [STARTED, time.monotonic_ns()]}
    print(json.dumps(SAID), flush=True)


def live_and_end():
    """Threads that start and end."""
    threads = [Lives(work) for work in (mixes, forks, launches)]
    for thread in threads:
        thread.ends()


STARTED = time.monotonic_ns()
LET_END = threading.Event()


def ends_when_told():
    LET_END.wait()
    spins(0.05)


def waits_for_go():
    """How long a recording went on before it is seen in here."""
    print("ready", flush=True)
    if MODE == "threads":
        print(json.dumps(SAID), flush=True)
    sys.stdin.readline()


def execs():
    """This thread, or the process, goes on with another program."""
    spins(0.1)
    time.sleep(0.1)
    say()
    os.execv(sys.executable, [sys.executable, "-u", __file__, "after", str(PROC)])


if MODE == "threads":
    before = [Lives(work) for work in (goes_on, is_blocked, ends_when_told)]
    while len(SAID) != len(before):
        time.sleep(0.01)
    waits_for_go()
    live_and_end()
    LET_END.set()
    before[2].ends()
    # Until the recording ends.
    stays = threading.Thread(target=goes_on, name="stays", daemon=True)
    SAID["stays"] = {"outer": [time.monotonic_ns(), None]}
    stays.start()
    SAID["stays"]["inner"] = [time.monotonic_ns(), None]
    SAID["stays"]["tid"] = stays.native_id
    say()
    sys.stdin.readline()
elif MODE == "exec from a thread":
    waits_for_go()
    Lives(execs)
    is_blocked()
elif MODE == "exec":
    mixes()
    execs()
else:
    live_and_end()
    say()
