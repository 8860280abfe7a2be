/* Asks for the time: most samples are in the vDSO. */
#include "common.h"
#include <time.h>

FUNCTION long asks(long a)
{
    struct timespec now;
    ready();
    for (;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        a += now.tv_nsec;
        counter += a;
    }
    return a;
}

FUNCTION long caller(long a)
{
    return asks(a) + counter;
}

int main(int argc, char **argv)
{
    (void)argv;
    return (int)caller(argc);
}
