"""Uses the CPU in a function that no other process has, and says what it used. Python 3.8 to 3.15.

Arguments: the number in the function's name, and seconds of CPU time. It begins when its standard
input ends.
"""
import os
import sys
import time

NUMBER, SECONDS = sys.argv[1:3]
SOURCE = """\
def work_%s(until):
    while time.process_time_ns() < until:
        sum(range(2000))
"""
NAMES = {"time": time}
exec(compile(SOURCE % NUMBER, "work_%s.py" % NUMBER, "exec"), NAMES)


def say(text):
    # In one piece: others write into the same pipe.
    os.write(1, (text + "\n").encode())


say("ready")
os.read(0, 1)
begin = time.process_time_ns()
NAMES["work_" + NUMBER](begin + int(float(SECONDS) * 1e9))
say("%s %d %d" % (NUMBER, begin, time.process_time_ns()))
# The end of an interpreter would be no work of that function.
os._exit(0)
