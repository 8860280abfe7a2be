"""Makes code in a loop, runs each piece for a while, and frees it: addresses are used again.

"names": every piece has a name, a file and a first line of its own.
"lines": every piece has the same name, file and first line, and loops on another line.
After ITERATIONS pieces it prints, per key, how often a sampling clock of RATE Hz can have met its
pieces at most, then how many addresses its code objects had.
"""
import json
import resource
import sys
import time

MODE = sys.argv[1]
ITERATIONS = int(sys.argv[2])
SECONDS = float(sys.argv[3])
RATE = float(sys.argv[4])


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


def switches():
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_nvcsw + usage.ru_nivcsw


def run_one(index, most, addresses):
    name, file, text = source(index)
    namespace = {}
    exec(compile(text, file, "exec"), namespace)
    function = namespace.pop(name)
    addresses[id(function.__code__)] = addresses.get(id(function.__code__), 0) + 1
    begin, switched = time.monotonic(), switches()
    function(time.thread_time, time.thread_time() + SECONDS)
    # Each CPU has a clock of its own: after a switch to another one the next tick can come at once.
    ticks = (time.monotonic() - begin) * RATE + switches() - switched + 1
    key = str(name if MODE == "names" else 2 + (1 + index % 7) - 1)
    most[key] = most.get(key, 0.0) + ticks


def main():
    most, addresses = {}, {}
    print("ready", flush=True)
    sys.stdin.readline()
    for index in range(ITERATIONS):
        run_one(index, most, addresses)
    print(json.dumps({"most": most, "addresses": len(addresses)}), flush=True)
    sys.stdin.readline()


main()
