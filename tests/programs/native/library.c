/* The library of plt.c and loads.c: a function that is hardly more than its call. */
volatile long library_counter;

long steps_on(long a);
long steps_back(long a);

long steps_on(long a)
{
    library_counter += a;
    return a;
}

long steps_back(long a)
{
    library_counter -= a;
    return a + 1;
}
