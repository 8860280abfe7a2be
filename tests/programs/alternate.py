"""Alternates a() -> leaf_a() and b() -> leaf_b() as fast as it can."""


def leaf_a():
    pass


def leaf_b():
    pass


def a():
    leaf_a()


def b():
    leaf_b()


def main():
    print("ready", flush=True)
    while True:
        a()
        b()


main()
