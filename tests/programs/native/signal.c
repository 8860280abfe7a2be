/* A signal handler that spins. The argument says where: on the "main" stack or on an "own" one, after
 * a signal that came in the middle of a loop; or after a "fault" in a function's first instruction,
 * where the address before the interrupted one is of another function. */
#define _GNU_SOURCE
#include "common.h"
#include <signal.h>
#include <string.h>
#include <unistd.h>

FUNCTION void handles(int number)
{
    spin();
    counter += number;
}

FUNCTION void handler(int number, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    handles(number);
    counter++;
}

FUNCTION long loops(long a)
{
    alarm(1);
    for (;;)
        counter += a;
    return a;
}

__asm__(".text\n"
        ".type before, @function\n"
        "before:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined rip\n"
        "    nop\n"
        "    .cfi_endproc\n"
        "    .size before, . - before\n"
        ".type faults, @function\n"
        "faults:\n"
        "    .cfi_startproc\n"
        "    ud2\n"
        "    ret\n"
        "    .cfi_endproc\n"
        "    .size faults, . - faults\n");
void faults(void);

FUNCTION long interrupted(int fault)
{
    if (fault)
        faults();
    else
        loops(1);
    return counter;
}

int main(int argc, char **argv)
{
    struct sigaction action;
    static char room[1 << 16];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    if (argc != 2)
        return 2;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO;
    if (strcmp(argv[1], "own") == 0) {
        action.sa_flags |= SA_ONSTACK;
        if (sigaltstack(&stack, NULL) != 0)
            return 3;
    }
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    return (int)interrupted(strcmp(argv[1], "fault") == 0);
}
