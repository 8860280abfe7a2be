"""Threads that each settle at the end of a known chain of calls, and say which.

Every thread prints its chain as Python itself sees it: a JSON line of [name, file, line] from the
root to the leaf. Then it waits ("wait") or spins ("spin"); the leaf's last line is given as the
list of lines that it can be on.
"""
import asyncio
import contextlib
import functools
import json
import sys
import threading
import time

MODE = sys.argv[1]
PRINTING = threading.Lock()
BUSY_LINES = []


def chain(frame):
    stack = []
    while frame is not None:
        code = frame.f_code
        stack.append([getattr(code, "co_qualname", code.co_name), code.co_filename, frame.f_lineno])
        frame = frame.f_back
    stack.reverse()
    return stack


def settle(_item=None):
    stack = chain(sys._getframe(1))
    first = settle.__code__.co_firstlineno
    own = getattr(settle.__code__, "co_qualname", "settle")
    lines = [first + 11] if MODE == "wait" else [first + 13, first + 14]
    with PRINTING:
        print(json.dumps({
            "thread": threading.current_thread().name,
            "stack": stack, "leaf": [own, settle.__code__.co_filename, lines],
        }), flush=True)
    if MODE == "wait":
        time.sleep(3600)
    count = 0
    while True:
        count += 1


def plain():
    nested(
        1,
        2,
    )


def nested(_a, _b):
    if _a:
        try:
            return settle()
        finally:
            _a = 0


class Shape:
    def __init__(self, act=False):
        if act:
            self.area()

    def area(self):
        def inner():
            return self.edge(
                settle
            )
        return inner()

    @staticmethod
    def edge(function):
        return function()

    @property
    def side(self):
        return settle()

    @classmethod
    def make(cls):
        return cls().side


def method():
    Shape().area()


def constructor():
    Shape(
        True
    )


def class_method():
    Shape.make()


def numbers():
    yield 1
    settle()
    yield 2


def generator():
    for _number in numbers():
        pass


def by_next():
    iterator = numbers()
    next(iterator)
    next(iterator)


def delegating():
    yield from numbers()


def yield_from():
    for _number in delegating():
        pass


async def inner_task():
    await asyncio.sleep(0)
    settle()


async def outer_task():
    await asyncio.gather(
        inner_task(),
    )


def coroutine():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(outer_task())


async def awaited():
    return await deeper()


async def deeper():
    settle()


def awaiting():
    try:
        awaited().send(None)
    except StopIteration:
        pass


def comprehension():
    return [settle() for _number in (1, 2)]


def lambdas():
    return (lambda: settle())()


def by_c_code():
    return sorted([3, 1, 2], key=lambda item: settle())


def reducing():
    return functools.reduce(lambda a, b: settle(), [1, 2, 3])


def partial():
    return functools.partial(settle, _item=1)()


def decorated():
    @functools.lru_cache(maxsize=None)
    def cached():
        return settle()
    return cached()


def manager():
    with contextlib.ExitStack() as stack:
        stack.callback(settle)


def executed():
    source = "\n\ndef generated():\n    x = 1\n    return settle()\n\n\ngenerated()\n"
    exec(compile(source, "<a template>", "exec"), {"settle": settle})


def fünk_é():
    漢字()


def 漢字():
    𐐀𐐁()


def 𐐀𐐁():
    settle()


def recursion(depth=50):
    if depth:
        return recursion(depth - 1)
    return settle()


class Dying:
    def __del__(self):
        settle()


def deleting():
    dying = Dying()
    del dying


SCENARIOS = [
    plain, method, constructor, class_method, generator, by_next, yield_from, coroutine, awaiting,
    comprehension, lambdas, by_c_code, reducing, partial, decorated, manager, executed, fünk_é,
    recursion, deleting,
]


def main():
    sys.setswitchinterval(0.001)
    print("ready", flush=True)
    print(len(SCENARIOS), flush=True)
    for scenario in SCENARIOS:
        threading.Thread(target=scenario, name=scenario.__name__, daemon=True).start()
    time.sleep(3600)


main()
