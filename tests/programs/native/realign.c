/* Frames whose size is known at run time only: realigned, with room that grows, and both. */
#include "common.h"
#include <alloca.h>
#include <string.h>

struct wide {
    char bytes[64];
} __attribute__((aligned(64)));

FUNCTION void touch(void *bytes, size_t count)
{
    memset(bytes, (int)count, count);
}

FUNCTION long last(long a)
{
    spin();
    return a + counter;
}

/* As long as the argument says. */
FUNCTION long grows(long a)
{
    char bytes[a + 33];
    touch(bytes, sizeof bytes);
    long x = last(a);
    return x + bytes[a];
}

FUNCTION long aligned(long a)
{
    struct wide wide;
    touch(&wide, sizeof wide);
    long x = grows(a);
    return x + wide.bytes[a & 63];
}

/* Arguments on the stack, of a frame that is realigned: they are found through another register. */
FUNCTION long arguments(long a, long b, long c, long d, long e, long f, long g, struct wide h)
{
    struct wide wide = h;
    touch(&wide, sizeof wide);
    char *more = alloca((size_t)(a + g));
    touch(more, (size_t)(a + g));
    long x = aligned(a);
    return x + a + b + c + d + e + f + g + more[1] + wide.bytes[3] + h.bytes[2];
}

FUNCTION long both(long a)
{
    struct wide wide;
    touch(&wide, sizeof wide);
    char *more = alloca((size_t)a * 100);
    touch(more, (size_t)a * 100);
    long x = arguments(a, 2, 3, 4, 5, 6, 7, wide);
    return x + more[a] + wide.bytes[a & 63];
}

int main(int argc, char **argv)
{
    (void)argv;
    return (int)both(argc + 2);
}
