import struct
import time


class Named:
    pass


def numpy_like(name, kind, value):
    # Its value lies where numpy has that of a scalar: behind the object's head.
    bits = struct.unpack("d", struct.pack(kind, value).ljust(8, b"\0"))[0]
    return type(name, (float,), {})(bits)


def function(a, b="x", *rest, key=3, **more):
    whole = 2**59
    large = 2**60
    small = -(2**70)
    negative = -5
    real = 2.5
    yes = True
    nothing = None
    text = 'say "ü"\n'
    long = "y" * 1000
    numbers = list(range(1000))
    pair = (1, "two")
    table = {"k": [1, {}], 2: ()}
    itself = []
    itself.append(itself)
    thing = Named()
    int8 = numpy_like("numpy.int8", "b", -7)
    uint16 = numpy_like("numpy.uint16", "H", 65535)
    int64 = numpy_like("numpy.int64", "q", -(2**40))
    float16 = numpy_like("numpy.float16", "e", 1.5)
    float32 = numpy_like("numpy.float32", "f", 0.25)
    float64 = numpy_like("numpy.float64", "d", 1e300)
    true = numpy_like("numpy.bool", "?", True)
    in_cell = [a]

    def inner():
        free = in_cell, b
        print("ready")
        time.sleep(1000)

    inner()
    del whole


function(5, "x", 7, other="z")
