/* The library of loads.c: calls another one through slots of the PLT that are not bound yet. */
long steps_on(long a);
long steps_back(long a);
long binds(long a);

long binds(long a)
{
    return steps_on(a) + steps_back(a) + 1;
}
