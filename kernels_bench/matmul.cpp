// Products of quantized matrices with columns of floats (ggml_mul_mat), which are nearly all that a language model
// computes: with 1 column decoding, with hundreds the reading of a prompt. Weights are cold and, where the device has
// such memory, repacked or not.

#include "ceilings.h"
#include "shapes.h"

namespace {

const char * const usage =
    "matmul [--check] [--shapes NAME|FILE] [--only NAME] [--types q4_k,...] [--columns 1,...] [--repack on|off|both]\n"
    "       [--ceilings read=GB/s,fma_f32=GFLOP/s,dot_bf16=GFLOP/s,dot_int8=GFLOP/s] [--device cpu|gpu|NAME]\n"
    "       [--threads N] [--repetitions N] [--seconds S]\n"
    "  every product is checked first, then timed for at most S seconds; without --ceilings they are measured";

struct Choice {
    std::vector<quantization::Type> types;
    std::vector<size_t> columns;
    std::vector<bool> repacked;
};

std::vector<bool> repack_choices(const std::string & text) {
    if (text != "on" && text != "off" && text != "both") {
        bench::wrong_call("--repack takes on, off or both, not '" + text + "'");
    }
    return text == "both" ? std::vector<bool>{false, true} : std::vector<bool>{text == "on"};
}

// What becomes of each product, and of those that there are not.
struct Visitor {
    size_t cold_bytes;
    std::function<bool(const shapes::Product &, const quantization::Matrix &, product::Product &, size_t n_columns,
                       bool repacked, const std::string & memory)>
        visit;
    std::function<void(const std::string &)> skip;
};

// Calls the visitor for every type, shape, memory and number of columns; false as soon as it does.
bool for_each_product(device::Device & device, const std::vector<shapes::Product> & all, const Choice & choice,
                      const Visitor & visitor) {
    for (const quantization::Type & type : choice.types) {
        for (const shapes::Product & shape : all) {
            const std::string what = std::string(type.name) + " " + shape.name;
            if (!quantization::Matrix::fits(type, shape.n_columns)) {
                visitor.skip(what + ": " + std::to_string(shape.n_columns) + " columns are no whole blocks");
                continue;
            }
            const quantization::Matrix matrix(type, shape.n_rows, shape.n_columns);
            for (const bool repacked : choice.repacked) {
                const auto memory = product::memory_for(device, matrix, repacked);
                if (!memory) {
                    visitor.skip(what + ": " + (repacked ? "not repacked on " : "no kernel on ") + device.name());
                    continue;
                }
                const product::Copies copies(matrix, *memory, visitor.cold_bytes);
                if (!copies.allocated()) {
                    visitor.skip(what + ": no room for the weights on " + device.name());
                    continue;
                }
                for (const size_t n_columns : choice.columns) {
                    product::Product product(device, matrix, copies, n_columns, std::min({n_columns, copies.n(), device::most_graphs}));
                    if (!product.allocated()) {
                        visitor.skip(what + ": no room for " + std::to_string(n_columns) + " columns");
                    } else if (!product.supported()) {
                        visitor.skip(what + ": no kernel for " + std::to_string(n_columns) + " columns on " + device.name());
                    } else if (!visitor.visit(shape, matrix, product, n_columns, repacked,
                                              ggml_backend_buft_name(*memory))) {
                        return false;
                    }
                }
            }
        }
    }
    return true;
}

std::string described(const shapes::Product & shape, const quantization::Matrix & matrix, size_t n_columns,
                      bool repacked) {
    return std::string(matrix.type.name) + " " + shape.name + ", " + std::to_string(n_columns) + " columns" +
           (repacked ? ", repacked" : "");
}

bool check_all(device::Device & device, const std::vector<shapes::Product> & all, const Choice & choice) {
    size_t n = 0;
    const bool right = for_each_product(
        device, all, choice,
        {1,
         [&](const auto & shape, const auto & matrix, auto & product, size_t n_columns, bool repacked, const auto &) {
             ++n;
             return product.check(described(shape, matrix, n_columns, repacked));
         },
         [](const std::string & what) { std::puts(what.c_str()); }});
    if (right) {
        std::printf("%zu products on %s are those of the scalar reference\n", n, device.description().c_str());
    }
    return right && n > 0;
}

bool measure_all(device::Device & device, const shapes::Shapes & shapes, const std::vector<shapes::Product> & all,
          const Choice & choice, size_t n_threads, const bench::Effort & effort, const bench::Arguments & arguments) {
    const ceilings::Ceilings ceilings = ceilings::of(device, n_threads, arguments);
    bench::Fields head = device.head(n_threads, "transfer of inputs and results; launches are included");
    head.emplace_back("shapes", bench::quoted(shapes.name));
    head.emplace_back("ceilings", ceilings.json());
    bench::Report report("matmul", head, {{"name", 10}, {"type", 8}, {"columns", 7}, {"memory", 12}});
    const auto visit = [&](const auto & shape, const auto & matrix, auto & product, size_t n_columns, bool repacked,
                           const std::string & memory) {
        if (!product.check(described(shape, matrix, n_columns, repacked))) {
            return false;
        }
        const bench::Work work{static_cast<double>(matrix.n_bytes()), product.n_operations(), ceilings.read_bytes_per_s,
                               ceilings.peak(matrix.type.arithmetic)};
        const auto samples = bench::measure(effort, product.n_per_run(), [&] { product.compute(); });
        report.row({shape.name, matrix.type.name, std::to_string(n_columns), memory}, work, samples,
                   {{"repacked", repacked ? "true" : "false"},
                    {"rows", std::to_string(shape.n_rows)},
                    {"inputs", std::to_string(shape.n_columns)},
                    {"count", std::to_string(shape.count)},
                    {"n_per_run", std::to_string(product.n_per_run())}});
        return true;
    };
    const bool right = for_each_product(device, all, choice,
                                        {bench::cold_bytes, visit, [&](const auto & what) { report.skipped(what); }});
    report.finish();
    return right;
}

} // namespace

int main(int argc, char ** argv) {
    const bench::Arguments arguments(argc, argv, usage);
    const bool check_only = arguments.flag("--check");
    const size_t n_threads = arguments.count("--threads", std::max(1U, std::thread::hardware_concurrency()));
    const bench::Effort effort{arguments.count("--repetitions", 20), arguments.number("--seconds", "0.5")};
    const Choice choice{quantization::chosen(arguments.list("--types", quantization::all_names())),
                        arguments.counts("--columns", check_only ? "1,3,8,33" : "1,8,16,64,144,576"),
                        repack_choices(arguments.text("--repack", "both"))};
    const shapes::Shapes shapes = shapes::read(arguments.text("--shapes", check_only ? "check" : "llava-1.5-7b"));
    const auto products = shapes::chosen(shapes.products, arguments.text("--only", ""), "language");
    device::Device device(arguments.text("--device", "cpu"), n_threads);
    const bool right = check_only ? check_all(device, products, choice)
                                  : measure_all(device, shapes, products, choice, n_threads, effort, arguments);
    return right ? 0 : 1;
}
