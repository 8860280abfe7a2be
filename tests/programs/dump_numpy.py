"""Scalars of the real numpy, in the directory that is the argument, and of Python: what each is as text."""
import json
import sys
import time

sys.path.insert(0, sys.argv[1])
import numpy


def function():
    kinds = "int8 uint8 int16 uint16 int32 uint32 int64 uint64 longlong ulonglong"
    whole = [getattr(numpy, kind)(100) for kind in kinds.split()]
    reals = [0.0, -0.0, 0.1, 1 / 3, 1e-4, 1.5e-5, 65500.0, -2.0, float("inf"), float("nan")]
    half = [numpy.float16(real) for real in reals]
    single = [numpy.float32(real) for real in reals + [1e16, 1e30, 1e-40]]
    double = [numpy.float64(real) for real in reals + [1e15, 1e16, 5e-324]]
    own = [float(real) for real in reals + [1e15, 1e16, 5e-324]]
    pairs = [complex(real, imaginary) for real in reals[:6] for imaginary in reals[5:]]
    narrow = [numpy.complex64(pair) for pair in pairs]
    wide = [numpy.complex128(pair) for pair in pairs]
    truths = [numpy.bool_(True), numpy.bool_(False)]
    texts = {name: [str(item) for item in items] for name, items in locals().items() if type(items) is list}
    print("ready")
    print(json.dumps(texts), flush=True)
    time.sleep(1000)


function()
