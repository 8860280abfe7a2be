/* Functions that are inlined into others, with debug info: they are frames none the less. */
#include "common.h"

static inline __attribute__((always_inline)) long innermost(long a)
{
    spin();
    return a + counter;
}

static inline __attribute__((always_inline)) long inner(long a)
{
    return innermost(a * 3) + counter;
}

FUNCTION long holds(long a)
{
    return inner(a) + a;
}

static inline __attribute__((always_inline)) long outer(long a)
{
    return holds(a + 1) ^ counter;
}

int main(int argc, char **argv)
{
    (void)argv;
    return (int)outer(argc);
}
