"""A stack that is known: outer, middle, and leaf on a CPU or nap off it.

With sort, C code calls leaf: that of a list that is sorted by it.
"""
import sys
import time


def leaf(_=None):
    total = 0
    while True:
        total = (total + 1) & 0xFFFF


def nap():
    while True:
        # Short: the wait in which a recording begins is read from outside, without native frames.
        time.sleep(0.01)


def sort():
    sorted([1], key=leaf)


def middle(last):
    last()


def outer(last):
    middle(last)


with open("/tmp/" + sys.argv[1], "w"):
    pass
outer({"busy": leaf, "sort": sort, "wait": nap}[sys.argv[1]])
