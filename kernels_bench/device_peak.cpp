// Peak arithmetic of a device as ggml's own kernels reach it: a large product of f16 weights. On a GPU this is the
// ceiling that other products are held against; a CPU's real peak is measured by `peak`.

#include "ceilings.h"

namespace {

const char * const usage = "device_peak [--check] [--device cpu|gpu|NAME] [--threads N] [--repetitions N] [--seconds S]\n"
                           "  without --check: check, then time for at most S seconds";

} // namespace

int main(int argc, char ** argv) {
    const bench::Arguments arguments(argc, argv, usage);
    const size_t n_threads = arguments.count("--threads", std::max(1U, std::thread::hardware_concurrency()));
    const bench::Effort effort{arguments.count("--repetitions", 20), arguments.number("--seconds", "1")};
    device::Device device(arguments.text("--device", "cpu"), n_threads);
    if (arguments.flag("--check")) {
        const quantization::Matrix matrix(quantization::chosen({"f16"})[0], 256, 512);
        const product::Copies copies(matrix, device.memory(), 1);
        product::Product product(device, matrix, copies, 64, 1);
        if (!copies.allocated() || !product.allocated() || !product.check("f16")) {
            return 1;
        }
        std::printf("the product on %s equals the scalar reference\n", device.description().c_str());
        return 0;
    }
    ceilings::LargeProduct large(device);
    if (!large.allocated()) {
        bench::wrong_call(device.name() + " has no room for the product");
    }
    if (!large.product.check("f16")) {
        return 1;
    }
    bench::Report report("device_peak", device.head(n_threads, "allocation and transfer; launches are included"),
                         {{"op", 24}});
    report.row({"f16 4096x4096x2048"}, {0, large.n_operations()},
               bench::measure(effort, 1, [&] { large.product.compute(); }));
    report.finish();
    return 0;
}
