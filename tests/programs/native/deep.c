/* As many frames of one function as its argument says. */
#include "common.h"

FUNCTION long deeper(long left)
{
    if (left == 0)
        spin();
    else
        deeper(left - 1);
    return left + counter;
}

int main(int argc, char **argv)
{
    return argc == 2 ? (int)deeper(atol(argv[1]) - 1) : 2;
}
