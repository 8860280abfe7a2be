"""For gdb: what is on the stacks of all threads, as a line of JSON.

A frame, from the leaf on: function, whether it is inlined into the next one, whether a signal
interrupted the next one, module, and the address in the module's file.
"""
import json
import os

import gdb


def mappings(pid):
    """[start, end, offset, path] of everything that has a name."""
    found = []
    with open("/proc/%d/maps" % pid) as maps:
        for line in maps:
            fields = line.split(None, 5)
            if len(fields) == 6:
                start, end = (int(part, 16) for part in fields[0].split("-"))
                found.append((start, end, fields[5].rstrip("\n")))
    return found


def place(maps, address):
    """Path of the module, and what the address is from its first mapping on."""
    for start, end, path in maps:
        if start <= address < end:
            return path, address - min(other[0] for other in maps if other[2] == path)
    return None, address


def frames(maps):
    found = []
    frame = gdb.newest_frame()
    while frame is not None:
        # What gdb concludes was there, of a call in a function's place, is not on the stack.
        if frame.type() == gdb.TAILCALL_FRAME:
            frame = frame.older()
            continue
        path, offset = place(maps, frame.pc())
        found.append({
            "function": frame.name(),
            "inlined": frame.type() == gdb.INLINE_FRAME,
            "signal": frame.type() == gdb.SIGTRAMP_FRAME,
            "path": path,
            "address": frame.pc(),
            "offset": offset,
        })
        frame = frame.older()
    return found


inferior = gdb.selected_inferior()
maps = mappings(inferior.pid)
threads = {}
for thread in inferior.threads():
    thread.switch()
    threads[thread.ptid[1]] = frames(maps)
with open(os.environ["PYSCRY_FRAMES"], "w") as output:
    json.dump(threads, output)
