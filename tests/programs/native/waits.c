/* Waits in a system call below a known chain of calls. The first argument says in which, the second
 * for how long at a time: "short" again and again, "long" once and for all. */
#define _GNU_SOURCE
#include "common.h"
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct timespec span;

FUNCTION long sleeps(long a)
{
    nanosleep(&span, NULL);
    return a + counter;
}

FUNCTION long futex(long a)
{
    static int word = 1;
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, &span, NULL, 0);
    return a + counter;
}

FUNCTION long polls(long a)
{
    poll(NULL, 0, span.tv_sec > 0 ? INT_MAX : 2);
    return a + counter;
}

FUNCTION long again(long (*waits)(long), long a)
{
    ready();
    for (;;)
        counter += waits(a);
    return a;
}

FUNCTION long caller(long (*waits)(long))
{
    return again(waits, 1) + counter;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    if (strcmp(argv[2], "long") == 0)
        span.tv_sec = 100000;
    else
        span.tv_nsec = 2000000;
    if (strcmp(argv[1], "sleep") == 0)
        return (int)caller(sleeps);
    if (strcmp(argv[1], "futex") == 0)
        return (int)caller(futex);
    if (strcmp(argv[1], "poll") == 0)
        return (int)caller(polls);
    return 2;
}
