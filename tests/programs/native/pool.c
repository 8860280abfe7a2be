/* Threads that spin in tasks of known names, while the main thread waits for them. */
#include "common.h"
#include <pthread.h>

static pthread_barrier_t barrier;

FUNCTION long task(long a)
{
    pthread_barrier_wait(&barrier);
    for (;;)
        counter++;
    return a;
}

FUNCTION long picks(long a)
{
    return task(a) + counter;
}

FUNCTION void *worker(void *argument)
{
    long a = picks((long)argument);
    return (void *)(a + counter);
}

int main(void)
{
    pthread_t threads[3];
    pthread_barrier_init(&barrier, NULL, 4);
    for (long i = 0; i < 3; i++)
        if (pthread_create(&threads[i], NULL, worker, (void *)i) != 0)
            return 2;
    pthread_barrier_wait(&barrier);
    ready();
    return pthread_join(threads[0], NULL);
}
