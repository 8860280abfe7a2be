"""Writes the line tables of this interpreter's standard library to standard output.

Runs on Python 3.8 to 3.15. After the header come the code objects, all integers little-endian:

    header:  b"LINES", u8 major, u8 minor
    code:    u32 bytes of bytecode (never 0), i32 co_firstlineno, u32 bytes of table, table,
             i32 line of each instruction (every 2 bytes of bytecode), -1 for none
    end:     u32 0, u32 number of code objects

The lines are the interpreter's own answer: `co_lines()`, up to 3.9 `dis.findlinestarts()`. Both
are held against `PyCode_Addr2Line` at the first and the last instruction of each range.
"""

import array
import ctypes
import dis
import importlib.machinery
import os
import random
import struct
import sys
import sysconfig
import types

MINOR = sys.version_info[1]
OUT = sys.stdout.buffer

addr2line = ctypes.pythonapi.PyCode_Addr2Line
addr2line.argtypes = [ctypes.py_object, ctypes.c_int]
addr2line.restype = ctypes.c_int


def ranges(code, size):
    """Yields (start, end, line) over the bytecode; -1 is no line."""
    if MINOR >= 10:
        for start, end, line in code.co_lines():
            yield start, end, -1 if line is None else line
        return
    start, line = 0, code.co_firstlineno
    for next_start, next_line in dis.findlinestarts(code):
        if next_start > start:
            yield start, next_start, line
        start, line = next_start, next_line
    yield start, size, line


def dump(code):
    size = len(code.co_code)
    table = code.co_linetable if MINOR >= 10 else code.co_lnotab
    lines = array.array("i")
    for start, end, line in ranges(code, size):
        assert start == 2 * len(lines) and start < end <= size, (code, start, end)
        for lasti in (start, end - 2):
            assert addr2line(code, lasti) == line, (code, lasti, line)
        lines.extend([line] * ((end - start) // 2))
    assert size == 2 * len(lines) > 0, code
    assert addr2line(code, -1) == code.co_firstlineno, code
    OUT.write(struct.pack("<IiI", size, code.co_firstlineno, len(table)))
    OUT.write(table)
    OUT.write(lines.tobytes())


def dump_all(code):
    """Dumps a code object and those inside it; returns how many."""
    dump(code)
    return 1 + sum(dump_all(c) for c in code.co_consts if isinstance(c, types.CodeType))


def library():
    """The code of every module of the standard library."""
    top = sysconfig.get_paths()["stdlib"]
    for directory, subdirectories, files in os.walk(top):
        subdirectories[:] = sorted(set(subdirectories) - {"site-packages", "dist-packages"})
        for name in sorted(files):
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                try:
                    # Takes the cached bytecode where there is some.
                    yield importlib.machinery.SourceFileLoader("m", path).get_code("m")
                except (SyntaxError, ValueError):
                    # Test data, and templates of lib2to3's tests for Python 2.
                    pass


def steep():
    """Code whose lines are far apart in both directions, and lines of much bytecode."""
    for gap in (1, 2, 3, 31, 32, 63, 64, 126, 127, 128, 129, 254, 255, 256, 257, 511, 2048, 70000):
        lines = "\n" * gap
        yield "def f(a):\n x = a(" + lines + "a," + lines + "a(a, a)," + lines + "a)\n return x\n"
        yield "class C:\n for i in a:" + lines + "  try: i()\n  finally: j()\n"
        yield "def f(a):\n with a:\n  if a:" + lines + "   return a\n a\n"
        yield "def f(a):\n a = a(" + "a, " * min(gap, 600) + ")" + lines + " a = a\n"


def wild(code):
    """Copies of a code object with valid tables that no compiler would write."""
    chance = random.Random(MINOR)
    units = len(code.co_code) // 2
    for _ in range(500):
        table, left = bytearray(), units
        while left > 0:
            step = min(left, chance.choice((1, 1, 2, 3, 8, 100)))
            delta = chance.choice((0, 0, 1, 2, -1, chance.randint(-128, 127)))
            if MINOR < 10:
                table += struct.pack("Bb", step * 2, delta)
            elif MINOR == 10:
                step *= chance.random() < 0.7
                table += struct.pack("Bb", step * 2, delta)
            else:
                step = min(step, 8)
                kind = chance.randrange(16)
                table.append(0x80 | kind << 3 | step - 1)
                if kind in (13, 14):
                    delta *= chance.choice((1, 100, 10000))
                    value = abs(delta) << 1 | (delta < 0)
                    while value > 63:
                        table.append(value & 63 | 64)
                        value >>= 6
                    table.append(value)
                columns = 1 if kind < 10 else 2 if kind < 13 else 3 if kind == 14 else 0
                table += bytes(chance.randrange(64) for _ in range(columns))
            left -= step
        # No line below 0, where the table means something else than its reader says.
        name = "co_linetable" if MINOR >= 10 else "co_lnotab"
        yield code.replace(co_firstlineno=500000000, **{name: bytes(table)})


def main():
    sys.dont_write_bytecode = True
    OUT.write(struct.pack("<5sBB", b"LINES", *sys.version_info[:2]))
    count = 0
    for code in library():
        count += dump_all(code)
    for source in steep():
        count += dump_all(compile(source, "steep", "exec"))
    for code in wild(compile("a = b(c, d)\n" * 50, "wild", "exec")):
        dump(code)
        count += 1
    OUT.write(struct.pack("<II", 0, count))
    OUT.flush()


main()
