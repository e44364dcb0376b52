// Peak arithmetic of the CPU, all threads: float multiply-add, 8-bit dot product, bfloat16 dot product where there is one.

#include "arguments.h"
#include "arithmetic.h"
#include "bench.h"

namespace {

const char * const usage = "peak [--check] [--threads N] [--repetitions N] [--seconds S]\n"
                           "  without --check: check, then time each for at most S seconds";

} // namespace

int main(int argc, char ** argv) {
    const bench::Arguments arguments(argc, argv, usage);
    const size_t n_threads = arguments.count("--threads", std::max(1U, std::thread::hardware_concurrency()));
    const bench::Effort effort{arguments.count("--repetitions", 20), arguments.number("--seconds", "0.5")};
    for (const arithmetic::Kind & kind : arithmetic::kinds()) {
        if (!kind.run(n_threads)) {
            std::fprintf(stderr, "%s: a sum differs from the scalar one\n", kind.name);
            return 1;
        }
    }
    if (arguments.flag("--check")) {
        std::puts("all sums equal the scalar reference");
        return 0;
    }

    bench::Report report("peak",
                         {{"device", "\"CPU\""},
                          {"n_threads", std::to_string(n_threads)},
                          {"excluded", "\"memory: operands stay in registers\""}},
                         {{"op", 9}, {"instruction", 36}});
    bool right = true;
    for (const arithmetic::Kind & kind : arithmetic::kinds()) {
        const double n_operations = kind.n_operations * static_cast<double>(n_threads);
        report.row({kind.name, kind.instruction}, {0, n_operations},
                   bench::measure(effort, 1, [&] { right &= kind.run(n_threads); }));
    }
    report.finish();
    return right ? 0 : 1;
}
