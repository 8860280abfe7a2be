/* Loads a library, calls into it for the first time, and unloads it, for ever: samples are in the
 * dynamic linker, also where it binds lazily. */
#include "common.h"
#include <dlfcn.h>

FUNCTION long loads(const char *file)
{
    long a = 0;
    ready();
    for (;;) {
        void *library = dlopen(file, RTLD_LAZY | RTLD_LOCAL);
        if (library == NULL)
            exit(3);
        long (*binds)(long) = (long (*)(long))dlsym(library, "binds");
        if (binds == NULL)
            exit(4);
        a += binds(a);
        if (dlclose(library) != 0)
            exit(5);
    }
    return a;
}

FUNCTION long caller(const char *file)
{
    return loads(file) + counter;
}

int main(int argc, char **argv)
{
    return argc == 2 ? (int)caller(argv[1]) : 2;
}
