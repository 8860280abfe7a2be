"""A function whose file name is on a page that the kernel cannot read while it samples.

The name lies in a file's mapping, and the page is taken out of the process's page table. Who reads
the process from outside brings it in; who may not wait for a page finds none. With the first line on
standard input the function works for the given time, then the process is gone.
"""

import ctypes
import mmap
import os
import sys
import tempfile
import time

NAME = "absent.py"


def absent(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def mapped_copy(text):
    """Bytes of a `str` in a mapping of a file."""
    size = sys.getsizeof(text)
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        mapping = mmap.mmap(file.fileno(), mmap.PAGESIZE)
    mapping[:size] = ctypes.string_at(id(text), size)
    # Nobody frees it.
    mapping[:8] = (1 << 20).to_bytes(8, "little")
    return mapping


def main():
    mapping = mapped_copy(NAME)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    code = absent.__code__
    size = object.__sizeof__(code)
    at = ctypes.string_at(id(code), size).index(id(code.co_filename).to_bytes(8, "little"))
    ctypes.c_uint64.from_address(id(code) + at).value = address
    assert code.co_filename == NAME
    print("ready", flush=True)
    sys.stdin.readline()
    # MADV_DONTNEED: what is in the file stays there.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert libc.madvise(address, mmap.PAGESIZE, 4) == 0
    absent(float(sys.argv[1]))
    os._exit(0)


main()
