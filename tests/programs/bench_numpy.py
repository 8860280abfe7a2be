"""Waits, with numpy and the libraries that it comes with."""

import numpy
import numpy.fft
import numpy.linalg
import numpy.random

import bench_common

# What is loaded when it is first used.
numpy.linalg.inv(numpy.random.default_rng(0).random((50, 50)))
bench_common.ready()
while True:
    bench_common.wait_for_line()
