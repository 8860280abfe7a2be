/* Frames of all sorts below a leaf that spins: none at all, with saved registers, with more than a
 * page of locals, with arguments on the stack, called through a pointer. */
#include "common.h"
#include <string.h>

FUNCTION long plain(long a)
{
    spin();
    return a + counter;
}

/* All six registers that a function must save. */
FUNCTION long saves(long a, long b, long c)
{
    long d = a * b, e = b * c, f = a - c;
    long x = plain(a);
    return a ^ b ^ c ^ d ^ e ^ f ^ x;
}

FUNCTION void fill(char *bytes, size_t count)
{
    memset(bytes, (int)count, count);
}

/* More than the stack protector's and the red zone's reach. */
FUNCTION long locals(long a)
{
    char bytes[20000];
    fill(bytes, sizeof bytes);
    long x = saves(a, bytes[1], bytes[2]);
    return x + bytes[a & 1023];
}

FUNCTION long many(long a, long b, long c, long d, long e, long f, long g, long h, long i)
{
    long x = locals(a + i);
    return x + a + b + c + d + e + f + g + h + i;
}

long (*volatile pointer)(long, long, long, long, long, long, long, long, long) = many;

FUNCTION long pointed(long a)
{
    long x = pointer(a, 2, 3, 4, 5, 6, 7, 8, 9);
    return x + a;
}

int main(int argc, char **argv)
{
    (void)argv;
    return (int)pointed(argc);
}
