// Memory bandwidth of a device as ggml's own kernels reach it (the ggml inside the installed llama-cpp-python): copy
// (b = a) and add (b += a) of 256 MiB float tensors, on the CPU or on the first GPU.
//
//   device_bandwidth [--device cpu|gpu] [--threads N] [--repetitions N]    check, then time
//   device_bandwidth [--device cpu|gpu] --check                            check only
//
// Excluded: allocation and transfer. Each repetition computes a graph of 8 operations, which hides what a launch costs.

#include "bench.h"

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>

#include <thread>

namespace {

constexpr size_t n_operations = 8;

// Two tensors on one device and the graphs that move them. Every handle is freed in the reverse order of its making.
class Tensors {
public:
    Tensors(ggml_backend_dev_t device, size_t n_threads, size_t n)
        : backend_(ggml_backend_dev_init(device, nullptr)),
          context_(ggml_init({ggml_tensor_overhead() * 64 + ggml_graph_overhead() * 4, nullptr, true})) {
        using SetThreads = void (*)(ggml_backend_t, int);
        const auto set_threads = reinterpret_cast<SetThreads>(ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(device), "ggml_backend_set_n_threads"));
        if (set_threads != nullptr) {
            set_threads(backend_, static_cast<int>(n_threads));
        }
        a_ = ggml_new_tensor_1d(context_, GGML_TYPE_F32, static_cast<int64_t>(n));
        b_ = ggml_new_tensor_1d(context_, GGML_TYPE_F32, static_cast<int64_t>(n));
        copy_once_ = graph(1, [&] { return ggml_cpy(context_, a_, b_); });
        add_once_ = graph(1, [&] { return ggml_add_inplace(context_, b_, a_); });
        copy_ = graph(n_operations, [&] { return ggml_cpy(context_, a_, b_); });
        add_ = graph(n_operations, [&] { return ggml_add_inplace(context_, b_, a_); });
        buffer_ = ggml_backend_alloc_ctx_tensors(context_, backend_);
    }

    ~Tensors() {
        ggml_backend_buffer_free(buffer_);
        ggml_free(context_);
        ggml_backend_free(backend_);
    }

    Tensors(const Tensors &) = delete;
    Tensors & operator=(const Tensors &) = delete;

    bool allocated() const { return buffer_ != nullptr; }
    void set(const std::vector<float> & a, const std::vector<float> & b) {
        ggml_backend_tensor_set(a_, a.data(), 0, ggml_nbytes(a_));
        ggml_backend_tensor_set(b_, b.data(), 0, ggml_nbytes(b_));
    }
    std::vector<float> b() const {
        std::vector<float> values(static_cast<size_t>(ggml_nelements(b_)));
        ggml_backend_tensor_get(b_, values.data(), 0, ggml_nbytes(b_));
        return values;
    }
    bool copy_once() { return compute(copy_once_); }
    bool add_once() { return compute(add_once_); }
    bool copy() { return compute(copy_); }
    bool add() { return compute(add_); }

private:
    template <typename Operation> ggml_cgraph * graph(size_t n, Operation && operation) {
        ggml_cgraph * built = ggml_new_graph_custom(context_, 2 * n_operations + 4, false);
        for (size_t i = 0; i < n; ++i) {
            ggml_build_forward_expand(built, operation());
        }
        return built;
    }

    // Waits until the device is done.
    bool compute(ggml_cgraph * graph) { return ggml_backend_graph_compute(backend_, graph) == GGML_STATUS_SUCCESS; }

    ggml_backend_t backend_;
    ggml_context * context_;
    ggml_tensor *a_ = nullptr, *b_ = nullptr;
    ggml_cgraph *copy_once_ = nullptr, *add_once_ = nullptr, *copy_ = nullptr, *add_ = nullptr;
    ggml_backend_buffer_t buffer_ = nullptr;
};

ggml_backend_dev_t find_device(const std::string & kind) {
    if (kind == "cpu") {
        return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    }
    ggml_backend_dev_t gpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU);
    return gpu != nullptr ? gpu : ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU);
}

bool holds(const char * op, const std::vector<float> & values, const std::vector<float> & expected) {
    for (size_t i = 0; i < values.size(); ++i) {
        if (values[i] != expected[i]) {
            std::fprintf(stderr, "%s: element %zu is %g, must be %g\n", op, i, values[i], expected[i]);
            return false;
        }
    }
    return true;
}

bool check(ggml_backend_dev_t device, size_t n_threads) {
    constexpr size_t n = 100'003;
    std::vector<float> a(n), twice_a(n);
    const std::vector<float> b(n, -1);
    for (size_t i = 0; i < n; ++i) {
        a[i] = static_cast<float>(i % 1000);
        twice_a[i] = 2 * a[i];
    }
    Tensors tensors(device, n_threads, n);
    tensors.set(a, b);
    return tensors.copy_once() && holds("copy", tensors.b(), a) && tensors.add_once() &&
           holds("add", tensors.b(), twice_a);
}

} // namespace

int main(int argc, char ** argv) {
    const std::string kind = bench::option(argc, argv, "--device", "cpu");
    const size_t n_threads =
        bench::count_option(argc, argv, "--threads", std::max(1U, std::thread::hardware_concurrency()));
    const size_t n_repetitions = bench::count_option(argc, argv, "--repetitions", 10);
    if (kind != "cpu" && kind != "gpu") {
        std::fprintf(stderr, "--device takes cpu or gpu, not '%s'\n", kind.c_str());
        return 2;
    }
    ggml_backend_dev_t device = find_device(kind);
    if (device == nullptr) {
        std::fprintf(stderr, "ggml finds no %s on this machine\n", kind.c_str());
        return 2;
    }
    if (!check(device, n_threads)) {
        return 1;
    }
    if (bench::flag(argc, argv, "--check")) {
        std::printf("copy and add on %s equal the scalar reference\n", ggml_backend_dev_description(device));
        return 0;
    }

    const size_t n = bench::cold_bytes / sizeof(float);
    Tensors tensors(device, n_threads, n);
    if (!tensors.allocated()) {
        std::fprintf(stderr, "%s has no room for %zu MiB\n", ggml_backend_dev_name(device), 2 * bench::cold_bytes >> 20);
        return 2;
    }
    tensors.set(std::vector<float>(n, 1), std::vector<float>(n, 0));
    bool done = true;
    bench::Report report("device_bandwidth", ggml_backend_dev_description(device), n_threads);
    report.row("copy", 2 * bench::cold_bytes * n_operations,
               bench::measure(2, n_repetitions, [&] { done &= tensors.copy(); }));
    report.row("add", 3 * bench::cold_bytes * n_operations,
               bench::measure(2, n_repetitions, [&] { done &= tensors.add(); }));
    report.finish();
    return done ? 0 : 1;
}
