"""Works without a pause below stacks of a known depth, whose functions C code calls in part.

Arguments: the number of Python functions on the stack, and how many of them are called by
functools.reduce, by sorted and by min. The work is a loop that calls nothing: what is on top of the stack
is always the interpreter's loop.
"""

import sys

import bench_common

CALLS = {
    "reduce": "    reduce(level_%d, (0, 0))\n",
    "sorted": "    sorted((0,), key=level_%d)\n",
    "min": "    min((0,), key=level_%d)\n",
    "python": "    level_%d()\n",
}


def compile_levels(kinds):
    """The outermost of one function more than there are kinds of calls; the last one works."""
    lines = ["from functools import reduce\n"]
    for level, kind in enumerate(kinds):
        lines.append("def level_%d(*_):\n" % level + CALLS[kind] % (level + 1))
    lines.append("def level_%d(*_):\n    while True:\n        pass\n" % len(kinds))
    names = {}
    exec(compile("".join(lines), "levels.py", "exec"), names)
    return names["level_0"]


DEPTH, BY_REDUCE, BY_SORTED, BY_MIN = (int(arg) for arg in sys.argv[1:])
KINDS = BY_REDUCE * ["reduce"] + BY_SORTED * ["sorted"] + BY_MIN * ["min"]
# This module is on the stack as well, and so is the function that works.
LEVELS = compile_levels(KINDS + (DEPTH - 2 - len(KINDS)) * ["python"])
bench_common.end_with_input()
bench_common.ready()
LEVELS()
