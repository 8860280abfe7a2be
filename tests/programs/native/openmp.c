/* A parallel region: the main thread and two of the pool spin in it. */
#include "common.h"
#include <omp.h>

FUNCTION long task(long a)
{
#pragma omp barrier
    if (a == 0)
        ready();
    for (;;)
        counter++;
    return a;
}

FUNCTION long region(void)
{
    long sum = 0;
#pragma omp parallel num_threads(3) reduction(+ : sum)
    sum += task(omp_get_thread_num());
    return sum;
}

int main(void)
{
    return (int)region();
}
