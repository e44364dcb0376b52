// Memory bandwidth of the CPU: the ceiling under which decoding a language model lives, since each token reads every
// weight once. Plain loops over 256 MiB arrays, split over threads; read, copy and triad (a = b + s * c).

#include "arguments.h"
#include "bench.h"
#include "memory.h"

namespace {

const char * const usage = "bandwidth [--check] [--ops read,copy,triad] [--threads N] [--repetitions N] [--seconds S]\n"
                           "  without --check: check, then time each for at most S seconds";

const std::vector<std::string> all_ops = {"read", "copy", "triad"};

bool check(memory::Words & words, memory::Arrays & arrays) {
    if (!words.read()) {
        std::fprintf(stderr, "read: wrong sum\n");
        return false;
    }
    arrays.copy();
    if (!arrays.holds("copy", memory::b_at)) {
        return false;
    }
    arrays.triad();
    return arrays.holds("triad", [](size_t i) { return memory::b_at(i) + memory::scale * memory::c_at(i); });
}

} // namespace

int main(int argc, char ** argv) {
    const bench::Arguments arguments(argc, argv, usage);
    const size_t n_threads = arguments.count("--threads", std::max(1U, std::thread::hardware_concurrency()));
    const bench::Effort effort{arguments.count("--repetitions", 20), arguments.number("--seconds", "1")};
    const std::vector<std::string> ops = arguments.list("--ops", "read,copy,triad");
    for (const std::string & op : ops) {
        if (std::count(all_ops.begin(), all_ops.end(), op) == 0) {
            bench::wrong_call("--ops knows " + bench::joined(all_ops) + ", not '" + op + "'");
        }
    }

    memory::Words few_words(50'001, n_threads);
    memory::Arrays few_floats(100'003, n_threads); // slices of unequal length
    if (!check(few_words, few_floats)) {
        return 1;
    }
    if (arguments.flag("--check")) {
        std::puts("read, copy and triad equal the scalar reference");
        return 0;
    }

    bench::Report report("bandwidth",
                         {{"device", "\"CPU\""},
                          {"n_threads", std::to_string(n_threads)},
                          {"excluded", "\"allocation and first touch; starting the threads, below 0.1 ms, is included\""}},
                         {{"op", 8}});
    bool right = true;
    for (const std::string & op : ops) {
        if (op == "read") {
            memory::Words words(bench::cold_bytes / sizeof(uint64_t), n_threads);
            const auto n_bytes = static_cast<double>(words.n_bytes());
            report.row({op}, {n_bytes}, bench::measure(effort, 1, [&] { right &= words.read(); }));
        } else { // bytes are counted as STREAM does: no write-allocate traffic
            memory::Arrays arrays(bench::cold_bytes / sizeof(float), n_threads);
            const auto n_bytes = static_cast<double>(arrays.n_bytes());
            report.row({op}, {n_bytes * (op == "copy" ? 2 : 3)},
                       bench::measure(effort, 1, [&] { op == "copy" ? arrays.copy() : arrays.triad(); }));
        }
    }
    report.finish();
    return right ? 0 : 1;
}
