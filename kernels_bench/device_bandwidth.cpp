// Memory bandwidth of a device as ggml's own kernels reach it: copy (b = a) and add (b += a) of 256 MiB float tensors.

#include "transfer.h"

#include <thread>

namespace {

const char * const usage =
    "device_bandwidth [--check] [--device cpu|gpu|NAME] [--threads N] [--repetitions N] [--seconds S]\n"
    "  without --check: check, then time each for at most S seconds";

} // namespace

int main(int argc, char ** argv) {
    const bench::Arguments arguments(argc, argv, usage);
    const size_t n_threads = arguments.count("--threads", std::max(1U, std::thread::hardware_concurrency()));
    const bench::Effort effort{arguments.count("--repetitions", 10), arguments.number("--seconds", "2")};
    device::Device device(arguments.text("--device", "cpu"), n_threads);
    transfer::Transfer small(device, 100'003);
    if (!small.allocated() || !small.check()) {
        return 1;
    }
    if (arguments.flag("--check")) {
        std::printf("copy and add on %s equal the scalar reference\n", device.description().c_str());
        return 0;
    }

    transfer::Transfer large(device, bench::cold_bytes / sizeof(float));
    if (!large.allocated()) {
        bench::wrong_call(device.name() + " has no room for " + std::to_string(2 * bench::cold_bytes >> 20) + " MiB");
    }
    bench::Report report("device_bandwidth", device.head(n_threads, "allocation and transfer; 8 operations are one run"),
                         {{"op", 8}});
    report.row({"copy"}, {large.copy_bytes()}, bench::measure(effort, 1, [&] { large.copy(); }));
    report.row({"add"}, {large.add_bytes()}, bench::measure(effort, 1, [&] { large.add(); }));
    report.finish();
    return 0;
}
