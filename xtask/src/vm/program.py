"""A stack that is known: outer, middle, and leaf on a CPU or nap off it."""
import sys
import time


def leaf():
    total = 0
    while True:
        total = (total + 1) & 0xFFFF


def nap():
    while True:
        time.sleep(0.05)


def middle(last):
    last()


def outer(last):
    middle(last)


with open("/tmp/" + sys.argv[1], "w"):
    pass
outer(leaf if sys.argv[1] == "busy" else nap)
