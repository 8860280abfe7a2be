"""Functions with names of every kind, each of which works for a moment; then the process is gone.

Arguments: `describe`, `spin` or `sleep`. `describe` prints, as JSON, what the frames of the functions
must be: name, file, lines. The others do the work and end without any clean-up; with a third argument
they wait for a line on standard input first.
"""

import functools
import json
import os
import sys
import time

SLICE = 0.012


class Ärgernis:
    def überlebt(self, clock, pause):
        end = clock() + SLICE
        while clock() < end:
            pause()


SOURCE = """{lines}
def {name}(clock, pause):
    {more}
    end = clock() + {slice}
    while clock() < end:
        pause()
"""


def made(name, file, before=0, within=0):
    """A function from source of its own, with so many lines before and within."""
    source = SOURCE.format(
        lines="\n" * before,
        name=name,
        more="\n    ".join("x = %d" % (line % 7) for line in range(within)) or "x = 0",
        slice=SLICE,
    )
    scope = {}
    exec(compile(source, file, "exec"), scope)
    return scope[name]


class Text(str):
    """A `str` that does not keep its characters behind its head."""


def renamed(function, name, file):
    """A function whose names are objects of our own choice."""
    function.__code__ = function.__code__.replace(co_name=name, co_filename=file)
    if sys.version_info >= (3, 11):
        function.__code__ = function.__code__.replace(co_qualname=name)
    return function


FUNCTIONS = [
    Ärgernis().überlebt,
    made("plain", "plain.py"),
    made("fünk_é", "où.py", before=3),
    made("漢字", "ファイル.py", before=300),
    made("𐌰𐌱𐌲", "😀 astral.py"),
    made("long_" + "n" * 1000, "f" * 200 + ".py"),
    made("lang_ü" + "ö" * 900, "plain.py", before=40),
    made("長" * 700, "長" * 60 + ".py"),
    made("long_table", "table.py", before=70000, within=2500),
    renamed(made("nobody", "nowhere"), Text("of_a_subclass"), Text("subclass.py")),
    renamed(made("nobody", "nowhere"), Text("的 of_a_subclass"), Text("的 subclass.py")),
]


def description():
    """Name, file and lines of each; of the last three lines one is the leaf's."""
    said = []
    for function in FUNCTIONS:
        code = function.__code__
        name = getattr(code, "co_qualname", code.co_name)
        last = max(line for _, line in lines_of(code))
        said.append([str(name), str(code.co_filename), [last - 2, last - 1, last]])
    return said


def lines_of(code):
    import dis

    return [entry for entry in dis.findlinestarts(code) if entry[1] is not None]


def main():
    mode = sys.argv[1]
    if mode == "describe":
        print(json.dumps(description()))
        return
    if len(sys.argv) > 2:
        print("ready", flush=True)
        sys.stdin.readline()
    spin = mode == "spin"
    clock = time.process_time if spin else time.monotonic
    # C: the function itself is the leaf.
    pause = time.time if spin else functools.partial(time.sleep, 0.003)
    for function in FUNCTIONS:
        function(clock, pause)
    os._exit(0)


main()
