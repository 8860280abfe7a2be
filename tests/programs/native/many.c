/* Spins in a function that no other program has. Built as a library as well: without `main`. */
#include "common.h"

FUNCTION void only_here(void)
{
    for (;;)
        counter++;
}

FUNCTION void on_its_own(void)
{
    only_here();
    counter++;
}

#ifndef LIBRARY
int main(void)
{
    ready();
    on_its_own();
    return 0;
}
#endif
