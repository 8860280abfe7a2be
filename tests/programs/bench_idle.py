"""Waits, with as many threads as its argument says."""

import sys

import bench_common

bench_common.start_idle(int(sys.argv[1]))
bench_common.ready()
while True:
    bench_common.wait_for_line()
