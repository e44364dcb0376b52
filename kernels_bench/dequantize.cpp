// Rows of quantized matrices back to floats (ggml_get_rows): how the embeddings of a prompt's tokens are read, and what
// products on some devices begin with. All rows of a matrix, in a mixed order.

#include "ceilings.h"
#include "shapes.h"

namespace {

const char * const usage = "dequantize [--check] [--shapes NAME|FILE] [--only NAME] [--types q4_k,...]\n"
                           "           [--ceilings read=GB/s] [--device cpu|gpu|NAME]\n"
                           "           [--threads N] [--repetitions N] [--seconds S]\n"
                           "  every type is checked first, then timed for at most S seconds; without --ceilings they\n"
                           "  are measured";

using quantization::Matrix;

class Rows {
public:
    Rows(device::Device & device, const Matrix & matrix)
        : matrix_(matrix), order_(mixed(matrix.n_rows)), room_(2),
          weights_(room_.tensor(matrix.type.type, {matrix.n_columns, matrix.n_rows})),
          indices_(room_.tensor(GGML_TYPE_I32, {matrix.n_rows})), has_inputs_(room_.allocate(device.memory())),
          cycle_(device, 1, 1, [&](ggml_context * context, size_t) { return ggml_get_rows(context, weights_, indices_); }) {
        if (has_inputs_) {
            device::upload(weights_, matrix.bytes());
            device::upload(indices_, order_);
        }
    }

    bool supported() const { return cycle_.supported(); }
    bool allocated() const { return has_inputs_ && cycle_.allocated(); }
    void compute() { cycle_.compute(); }

    // What is read and what is written.
    double n_bytes() const {
        return static_cast<double>(matrix_.n_bytes() + matrix_.n_rows * matrix_.n_columns * sizeof(float));
    }

    bool check(const std::string & what) {
        cycle_.compute();
        const std::vector<float> result = cycle_.result();
        quantization::Difference difference, rounding;
        for (size_t i = 0; i < matrix_.n_rows; i += std::max<size_t>(1, matrix_.n_rows / 256)) {
            const float * row = matrix_.row(static_cast<size_t>(order_[i]));
            for (size_t k = 0; k < matrix_.n_columns; ++k) {
                difference.add(result[i * matrix_.n_columns + k], row[k]);
            }
        }
        for (size_t i = 0; i < matrix_.values().size(); ++i) { // the reference itself, against what was quantized
            rounding.add(matrix_.values()[i], matrix_.original()[i]);
        }
        return difference.within(1e-12, what) && rounding.within(matrix_.type.rounding_error, what + " against the original");
    }

private:
    // Every row once, neighbours far apart.
    static std::vector<int32_t> mixed(size_t n) {
        std::vector<int32_t> order(n);
        for (size_t i = 0; i < n; ++i) {
            order[i] = static_cast<int32_t>(i);
        }
        std::mt19937 generator(3);
        for (size_t i = n - 1; i > 0; --i) { // not std::shuffle, which differs from library to library
            std::swap(order[i], order[generator() % (i + 1)]);
        }
        return order;
    }

    const Matrix & matrix_;
    std::vector<int32_t> order_;
    device::Room room_;
    ggml_tensor *weights_, *indices_;
    bool has_inputs_;
    device::Cycle cycle_;
};

// Calls visit for every type and shape, skip for what there is not; false as soon as visit does.
template <typename Visit, typename Skip>
bool for_each_matrix(device::Device & device, const std::vector<quantization::Type> & types,
                     const std::vector<shapes::Product> & all, size_t n_rows, Visit && visit, Skip && skip) {
    for (const quantization::Type & type : types) {
        for (const shapes::Product & shape : all) {
            const std::string what = std::string(type.name) + " " + shape.name;
            if (!Matrix::fits(type, shape.n_columns)) {
                skip(what + ": " + std::to_string(shape.n_columns) + " columns are no whole blocks");
                continue;
            }
            const Matrix matrix(type, n_rows > 0 ? n_rows : shape.n_rows, shape.n_columns);
            Rows rows(device, matrix);
            if (!rows.supported()) {
                skip(what + ": no kernel on " + device.name());
            } else if (!rows.allocated()) {
                skip(what + ": no room on " + device.name());
            } else if (!visit(what, shape, matrix, rows)) {
                return false;
            }
        }
    }
    return true;
}

} // namespace

int main(int argc, char ** argv) {
    const bench::Arguments arguments(argc, argv, usage);
    const bool check_only = arguments.flag("--check");
    const size_t n_threads = arguments.count("--threads", std::max(1U, std::thread::hardware_concurrency()));
    const bench::Effort effort{arguments.count("--repetitions", 20), arguments.number("--seconds", "0.5")};
    const auto types = quantization::chosen(arguments.list("--types", quantization::all_names()));
    const shapes::Shapes shapes = shapes::read(arguments.text("--shapes", check_only ? "check" : "llava-1.5-7b"));
    auto all = shapes::chosen(shapes.products, arguments.text("--only", ""), "language");
    device::Device device(arguments.text("--device", "cpu"), n_threads);
    if (check_only) {
        size_t n = 0;
        const bool right = for_each_matrix(
            device, types, all, 0,
            [&](const std::string & what, const auto &, const auto &, Rows & rows) { return ++n && rows.check(what); },
            [](const std::string & what) { std::puts(what.c_str()); });
        if (right) {
            std::printf("rows of %zu matrices on %s are those of the scalar reference\n", n, device.description().c_str());
        }
        return right && n > 0 ? 0 : 1;
    }

    const ceilings::Ceilings ceilings = ceilings::of(device, n_threads, arguments);
    bench::Fields head = device.head(n_threads, "transfer of inputs and results");
    head.emplace_back("shapes", bench::quoted(shapes.name));
    head.emplace_back("ceilings", ceilings.json());
    bench::Report report("dequantize", head, {{"name", 10}, {"type", 8}});
    all.resize(1); // a row's width is all that matters; so many rows that nothing stays in a cache
    const size_t n_rows = bench::cold_bytes / sizeof(float) / all[0].n_columns;
    const bool right = for_each_matrix(
        device, types, all, n_rows,
        [&](const std::string & what, const auto & shape, const Matrix & matrix, Rows & rows) {
            if (!rows.check(what)) {
                return false;
            }
            report.row({shape.name, matrix.type.name}, {rows.n_bytes(), 0, ceilings.read_bytes_per_s, 0},
                       bench::measure(effort, 1, [&] { rows.compute(); }),
                       {{"rows", std::to_string(matrix.n_rows)}, {"inputs", std::to_string(matrix.n_columns)}});
            return true;
        },
        [&](const std::string & what) { report.skipped(what); });
    report.finish();
    return right ? 0 : 1;
}
