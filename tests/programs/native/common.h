/* What the C programs share: functions that stay functions, and a leaf that never returns. */
#include <stdio.h>
#include <stdlib.h>

/* A function that is called as it is written: not inlined, not cloned, nothing known of it. */
#define FUNCTION __attribute__((noipa))

volatile long counter;

/* Says that the stack is as it will stay. */
FUNCTION void ready(void)
{
    puts("ready");
    fflush(stdout);
}

FUNCTION void spin(void)
{
    ready();
    for (;;)
        counter++;
}
