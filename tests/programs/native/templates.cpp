// Names that are long: templates of templates, a lambda, a virtual function, a namespace.
#include "common.h"
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace some::place {

template <typename T, int N> struct Level {
    FUNCTION static long down(const T &value) { return Level<std::vector<T>, N - 1>::down({value}) + N; }
};

struct Base {
    virtual ~Base() = default;
    virtual long act(const std::map<std::string, long> &) = 0;
};

struct Derived final : Base {
    FUNCTION long act(const std::map<std::string, long> &names) override
    {
        spin();
        return static_cast<long>(names.size()) + counter;
    }
};

FUNCTION long called(Base &base)
{
    auto lambda = [&base](const std::map<std::string, long> &names) FUNCTION -> long {
        return base.act(names) + counter;
    };
    return lambda({{"a", 1}}) + counter;
}

template <typename T> struct Level<T, 0> {
    FUNCTION static long down(const T &value)
    {
        Derived derived;
        return called(derived) + static_cast<long>(value.size());
    }
};

} // namespace some::place

int main(int argc, char **)
{
    return static_cast<int>(some::place::Level<int, 3>::down(argc) + argc);
}
