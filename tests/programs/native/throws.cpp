// Exceptions that are thrown through frames with and without something to clean up, and caught,
// for ever: the leaf is anywhere between, the callers of `catches` stay the same.
#include "common.h"
#include <stdexcept>
#include <string>

struct Cleans {
    std::string text;
    explicit Cleans(long a) : text(static_cast<size_t>(a), 'x') {}
    FUNCTION ~Cleans() { counter = counter + static_cast<long>(text.size()); }
};

FUNCTION long throws(long a)
{
    if (counter >= 0)
        throw std::runtime_error("thrown");
    return a;
}

FUNCTION long plain(long a) { return throws(a) + 1; }

FUNCTION long cleans(long a)
{
    Cleans cleans(a + 40);
    return plain(a) + 2;
}

FUNCTION long rethrows(long a)
{
    try {
        return cleans(a) + 3;
    } catch (const std::exception &) {
        counter = 0;
        throw;
    }
}

FUNCTION long catches(long a)
{
    for (;;) {
        try {
            a += rethrows(a);
        } catch (const std::runtime_error &error) {
            counter = error.what()[0];
        }
    }
    return a;
}

FUNCTION long outer(long a)
{
    Cleans cleans(a);
    ready();
    return catches(a) + 1;
}

int main(int argc, char **) { return static_cast<int>(outer(argc)); }
