// A C++ program whose names are mangled: waits for its standard input in a method.
#include <unistd.h>
#include <vector>

namespace crawler {
struct Fetcher {
    virtual ~Fetcher() = default;
    __attribute__((noinline)) virtual long fetch(std::vector<int> const &fds) {
        char byte;
        long n = read(fds[0], &byte, 1); // here
        return n + byte;
    }
};

template <class T> __attribute__((noinline)) long run(T &fetcher) {
    std::vector<int> fds{0};
    return fetcher.fetch(fds) + 2;
}
} // namespace crawler

int main() {
    crawler::Fetcher fetcher;
    return crawler::run(fetcher) > 5;
}
