"""Python that C calls that Python calls, in many ways; each ends in a leaf that never returns.

A thread for each way, and the main thread in one of them. Each prints its stack as Python itself
sees it, a JSON line of [name, file, line, entry] from the root to the leaf, where the entry says who
called the frame: "C", or "Python" without C between since 3.11, or "either" where it depends on the
version. The leaf is given with all lines that it can be on.

The first argument is what the leaf does, "spin" or "wait"; the others are as what and where there is
a library that calls back.
"""
import contextlib
import ctypes
import functools
import gc
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
import threading

MODE, LIBRARY_KIND, LIBRARY = sys.argv[1:]
ENTRIES = {}
READ, WRITE = os.pipe()
PRINTING = threading.Lock()


def by_c(function):
    """Marks a function that C code calls."""
    ENTRIES[function.__code__] = "C"
    return function


def by_either(function):
    """Marks a function that C code calls on some versions, or before its caller is specialised."""
    ENTRIES[function.__code__] = "either"
    return function


def name_of(code):
    return getattr(code, "co_qualname", code.co_name)


def chain(frame):
    stack = []
    while frame is not None:
        code = frame.f_code
        # What the interpreter or the standard library calls.
        entry = ENTRIES.get(code)
        if entry is None:
            known = {"<module>": "C", "Thread._bootstrap": "C", "_bootstrap": "C"}
            entry = known.get(name_of(code), "Python")
            if code.co_filename != settle.__code__.co_filename and entry == "Python":
                entry = "either"
        stack.append([name_of(code), code.co_filename, frame.f_lineno, entry])
        frame = frame.f_back
    stack.reverse()
    return stack


def settle():
    stack = chain(sys._getframe(1))
    first = settle.__code__.co_firstlineno
    # From where it prints on: the others run before it comes to its loop.
    lines = [first + 10] if MODE == "wait" else list(range(first + 4, first + 14))
    leaf = ["settle", settle.__code__.co_filename, lines, "Python"]
    way = next(name for name, *_ in stack if name in NAMES)
    with PRINTING:
        print(json.dumps({"way": way, "stack": stack, "leaf": leaf}), flush=True)
    if MODE == "wait":
        os.read(READ, 1)
    count = 0
    while True:
        count += 1


@by_c
def key(_item):
    settle()


def sorting():
    sorted([3, 1, 2], key=key)


@by_c
def reduction(_left, _right):
    settle()


def reducing():
    functools.reduce(reduction, [1, 2, 3])


@by_c
def replacement(_match):
    settle()


def substituting():
    re.sub("a", replacement, "bab")


@by_c
def default(_item):
    settle()


def dumping():
    json.dumps([1, object()], default=default)


@by_c
def hook(_item):
    settle()


def loading():
    json.loads('[{"a": 1}]', object_hook=hook)


@by_c
def compare(_left, _right):
    settle()
    return 0


def comparing():
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    pointer = ctypes.POINTER(ctypes.c_int)
    function = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)(compare)
    qsort = ctypes.CDLL(None).qsort
    qsort.restype = None
    qsort(numbers, 3, ctypes.sizeof(ctypes.c_int), function)


@by_c
def called_back():
    settle()
    return 0


def extending():
    """By an extension module, where there are headers to build it with."""
    if LIBRARY_KIND == "module":
        loader = importlib.machinery.ExtensionFileLoader("extension", LIBRARY)
        spec = importlib.util.spec_from_loader("extension", loader)
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        module.calls_back(called_back)
    else:
        function = ctypes.CFUNCTYPE(ctypes.c_int)(called_back)
        ctypes.CDLL(LIBRARY).calls_back(function)


@by_either
def inner_numbers():
    yield 1
    settle()


@by_either
def delegating():
    yield from inner_numbers()


@by_c
def numbers():
    for number in delegating():
        yield number


def generating():
    sum(numbers())


class Dying:
    @by_c
    def __del__(self):
        settle()


def clearing():
    holder = {"a": Dying()}
    holder.clear()


def collecting():
    dying = Dying()
    dying.itself = dying
    del dying
    gc.collect()


class Number:
    @by_c
    def __add__(self, _other):
        settle()

    @by_c
    def __eq__(self, _other):
        settle()

    @by_c
    def __getattr__(self, _name):
        settle()

    __hash__ = None


def adding():
    Number() + 1


def searching():
    [Number()].index(1)


def looking_up():
    getattr(Number(), "absent")


@by_c
def mapped(_item):
    settle()


def mapping():
    list(map(mapped, [1, 2]))


class Base:
    @by_c
    def __init_subclass__(cls):
        settle()


def deriving():
    class Derived(Base):
        pass


def executing():
    exec(compile("settle()", __file__, "exec"), {"settle": settle})


@by_c
def deeper(left, _item):
    if left > 0:
        functools.reduce(deeper, [left - 1, None])
    else:
        settle()


def deep():
    functools.reduce(deeper, [298, None])


def directly():
    """Python calls Python: since 3.11 without C."""
    return one_more(settle)


def one_more(function):
    with contextlib.suppress(ZeroDivisionError):
        return function()


@by_c
def key_of_key(_item):
    directly()


@by_c
def reduction_of_sorted(_left, _right):
    sorted([3, 1, 2], key=key_of_key)


@by_c
def mapped_reduction(_item):
    functools.reduce(reduction_of_sorted, [1, 2, 3])


def nesting():
    list(map(mapped_reduction, [1, 2]))


WAYS = [
    sorting, reducing, substituting, dumping, loading, comparing, extending, generating, clearing,
    collecting, adding, searching, looking_up, mapping, deriving, executing, deep, directly, nesting,
]
NAMES = {way.__name__ for way in WAYS}
for way in WAYS:
    # Called by Thread.run, through C before 3.12.
    by_either(way)


def main():
    sys.setswitchinterval(0.001)
    print("ready", flush=True)
    print(len(WAYS) + 1, flush=True)
    for way in WAYS:
        threading.Thread(target=way, name=way.__name__, daemon=True).start()
    nesting()


main()
