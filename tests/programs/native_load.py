"""Libraries under load, in functions of known names. The first argument says which, a second one
where modules are that are not the interpreter's own.
"""
import os
import sys

sys.path[:0] = sys.argv[2:]


def compress():
    import random
    import zlib
    words = [b"%x" % (number * number) for number in range(2000)]
    data = b" ".join(random.Random(1).choices(words, k=100000))
    return lambda: zlib.compress(data, 6)


def digest():
    import hashlib
    data = bytes(1 << 20)
    return lambda: hashlib.sha256(data).digest()


def query():
    import sqlite3
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE numbers (a INTEGER, b TEXT)")
    base.executemany("INSERT INTO numbers VALUES (?, ?)",
                     ((number * 7919 % 1009, str(number)) for number in range(20000)))
    # One row: what Python makes of rows is not the library's.
    ask = "SELECT count(*), max(a), min(b) FROM numbers WHERE b LIKE '%7%' OR a % 7 = 3"
    return lambda: base.execute(ask).fetchall()


def sort():
    import numpy
    data = numpy.random.default_rng(1).random(1 << 18)
    return lambda: data.argsort(kind="stable")


def multiply():
    # Its other threads have no Python.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy
    data = numpy.random.default_rng(1).random((300, 300))
    return lambda: data @ data


def works(function):
    function()


def repeats(function):
    works(function)
    print("ready", flush=True)
    while True:
        works(function)


repeats(globals()[sys.argv[1]]())
