# Threads that wait, each in its own way. Told "report", says what the interpreter has on their stacks;
# told "abort", leaves a core file.
import asyncio
import faulthandler
import json
import linecache
import os
import resource
import sys
import threading
import time

# Who has the interpreter's lock lets go of it to wait, and for nothing else.
sys.setswitchinterval(1000)
in_loop = []


class Maker:
    def __init__(self, wait):
        wait()


def in_generator(wait):
    wait()
    yield


def sleeps():
    time.sleep(1000)


def constructs():
    Maker(lambda: time.sleep(1000))


def generates():
    for _ in in_generator(lambda: time.sleep(1000)):
        pass


def sorts():
    sorted([2, 1], key=lambda number: time.sleep(1000))


def executes():
    exec(compile("def inner():\n\n    time.sleep(1000)\ninner()", "<made up>", "exec"), globals())


def loops():
    async def step():
        in_loop.append(True)
        await asyncio.sleep(1000)

    async def main():
        await step()

    asyncio.run(main())


def report():
    frames = sys._current_frames()
    names = {thread.ident: thread for thread in threading.enumerate()}
    stacks = {}
    for ident, frame in frames.items():
        stack = []
        while frame is not None:
            code = frame.f_code
            name = getattr(code, "co_qualname", code.co_name)
            stack.append([name, code.co_filename, frame.f_lineno])
            frame = frame.f_back
        thread = names[ident]
        stacks[ident] = {"name": thread.name, "tid": thread.native_id, "frames": stack}
    print(json.dumps(stacks))
    sys.stdout.flush()
    faulthandler.dump_traceback(file=sys.__stdout__, all_threads=True)
    print("end")


def listen():
    get_ready()
    for line in sys.stdin:
        if line.strip() == "report":
            report()
        else:
            os.chdir(os.path.dirname(os.path.abspath(__file__)))
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
            os.abort()


def waits(frame):
    # It does not have the lock, since we have it: so it waits, if it stands at such a line.
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    if frame.f_code.co_filename == "<made up>":
        return frame.f_lineno == 3
    if "_selector.poll(" in line:
        return bool(in_loop)
    return "time.sleep(1000)" in line or "waiter.acquire()" in line


def get_ready():
    while True:
        frames = sys._current_frames()
        del frames[threading.get_ident()]
        if len(frames) == 7 and all(map(waits, frames.values())):
            break
        time.sleep(0.01)
    print("ready")


for number, target in enumerate([sleeps, constructs, generates, sorts, executes, loops]):
    threading.Thread(target=target, name="%s-%d-ü" % (target.__name__, number), daemon=True).start()
threading.Thread(target=listen, name="Listener", daemon=True).start()
threading.Event().wait()
