"""Makes code in a loop, runs each piece for a while, and frees it: addresses are used again.

"names": every piece has a name, a file and a first line of its own.
"lines": every piece has the same name, file and first line, and loops on another line.
After ITERATIONS pieces it prints, per piece, its key and the CPU seconds it ran, then how many
addresses its code objects had.
"""
import json
import sys
import time

MODE = sys.argv[1]
ITERATIONS = int(sys.argv[2])
SECONDS = float(sys.argv[3])


def source(index):
    if MODE == "names":
        return "gen_%d" % index, "<gen %d>" % index, "\n" * (index % 50) + (
            "def gen_%d(clock, until):\n"
            "    while clock() < until:\n"
            "        pass\n" % index)
    blank = "\n" * (1 + index % 7)
    return "gen", "<gen>", (
        "def gen(clock, until):\n"
        "    x = 0" + blank +
        "    while clock() < until:\n"
        "        x += 1\n")


def run_one(index, ran, addresses):
    name, file, text = source(index)
    namespace = {}
    exec(compile(text, file, "exec"), namespace)
    function = namespace.pop(name)
    addresses[id(function.__code__)] = addresses.get(id(function.__code__), 0) + 1
    begin = time.thread_time()
    function(time.thread_time, begin + SECONDS)
    key = name if MODE == "names" else 2 + (1 + index % 7) - 1
    ran[str(key)] = ran.get(str(key), 0.0) + time.thread_time() - begin


def main():
    ran, addresses = {}, {}
    print("ready", flush=True)
    sys.stdin.readline()
    for index in range(ITERATIONS):
        run_one(index, ran, addresses)
    print(json.dumps({"ran": ran, "addresses": len(addresses)}), flush=True)
    sys.stdin.readline()


main()
