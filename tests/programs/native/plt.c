/* Calls a library in a loop: samples are in the loop, in the slots of the PLT, and in the library. */
#include "common.h"

long steps_on(long a);
long steps_back(long a);

FUNCTION long calls(long a)
{
    ready();
    for (;;) {
        a += steps_on(a);
        a -= steps_back(a);
        a += steps_on(a);
        a -= steps_back(a);
    }
    return a;
}

FUNCTION long caller(long a)
{
    return calls(a) + counter;
}

int main(int argc, char **argv)
{
    (void)argv;
    return (int)caller(argc);
}
