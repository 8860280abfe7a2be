/* For interpreters without headers, through ctypes; it needs no C library, and so runs with any. */
volatile int counter;
int calls_back(int (*function)(void));

int calls_back(int (*function)(void))
{
    int result = function();
    counter++;
    return result;
}
