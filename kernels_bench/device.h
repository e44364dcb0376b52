// A device as ggml sees it, and graphs whose tensors lie there. The ggml is the one inside the installed
// llama-cpp-python, on whichever backend that was built for. Knows nothing of what the graphs compute.
#pragma once

#include "arguments.h"
#include "bench.h"

#include <ggml-cpp.h>

#include <functional>

namespace device {

// ggml tells of every tensor that it repacks; only what is amiss is passed on.
inline void log_warnings_only() {
    ggml_log_set(
        [](enum ggml_log_level level, const char * text, void *) {
            if (level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR) {
                std::fputs(text, stderr);
            }
        },
        nullptr);
}

// Ends the program if the ggml that was loaded is not the one that this was compiled with: its structs may be others.
inline void require_same_ggml() {
    const std::string loaded = std::string(ggml_version()) + " " + ggml_commit();
    if (loaded != AESEDGE_GGML) {
        bench::wrong_call("built with ggml " AESEDGE_GGML ", but the installed llama-cpp-python brings " + loaded +
                          "; build again: make kernels");
    }
}

class Device {
public:
    // kind: "cpu", "gpu" (the first one), ggml's own name of a device, or the file of a backend to load (with a slash in
    // its name). None there ends the program.
    Device(const std::string & kind, size_t n_threads) {
        require_same_ggml();
        log_warnings_only();
        if (ggml_backend_reg_count() == 0) {
            ggml_backend_load_all(); // builds that load their backends at run time
        }
        handle_ = kind.find('/') == std::string::npos ? find(kind) : loaded(kind);
        backend_.reset(ggml_backend_dev_init(handle_, nullptr));
        if (backend_ == nullptr) {
            bench::wrong_call("ggml cannot use " + name());
        }
        using SetThreads = void (*)(ggml_backend_t, int);
        if (const auto set_threads = reinterpret_cast<SetThreads>(procedure("ggml_backend_set_n_threads"))) {
            set_threads(backend_.get(), static_cast<int>(n_threads));
        }
    }

    std::string name() const { return ggml_backend_dev_name(handle_); }
    std::string description() const { return ggml_backend_dev_description(handle_); }
    // Or an accelerator in the CPU's memory, such as aesedge's own kernels.
    bool is_cpu() const {
        const enum ggml_backend_dev_type type = ggml_backend_dev_type(handle_);
        return type == GGML_BACKEND_DEVICE_TYPE_CPU || type == GGML_BACKEND_DEVICE_TYPE_ACCEL;
    }
    ggml_backend_buffer_type_t memory() const { return ggml_backend_dev_buffer_type(handle_); }
    bool supports(const ggml_tensor * operation) const { return ggml_backend_dev_supports_op(handle_, operation); }

    // Waits until the device is done; a failure ends the program.
    void compute(ggml_cgraph * graph) {
        if (ggml_backend_graph_compute(backend_.get(), graph) != GGML_STATUS_SUCCESS) {
            std::fprintf(stderr, "%s: the computation failed\n", name().c_str());
            std::exit(1);
        }
    }

    // Kinds of memory that hold weights in an order of their own, in llama.cpp's order of preference.
    std::vector<ggml_backend_buffer_type_t> repacking_memories() const {
        std::vector<ggml_backend_buffer_type_t> found;
        if (const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
                procedure("ggml_backend_dev_get_extra_bufts"))) {
            for (ggml_backend_buffer_type_t * memory = extra(handle_); memory != nullptr && *memory != nullptr; ++memory) {
                found.push_back(*memory);
            }
        }
        return found;
    }

    bench::Fields head(size_t n_threads, const std::string & excluded) const {
        return {{"device", bench::quoted(description())},   {"ggml_device", bench::quoted(name())},
                {"n_threads", std::to_string(n_threads)},   {"ggml_version", bench::quoted(ggml_version())},
                {"ggml_commit", bench::quoted(ggml_commit())}, {"excluded", bench::quoted(excluded)}};
    }

private:
    static ggml_backend_dev_t loaded(const std::string & file) {
        ggml_backend_reg_t registry = ggml_backend_load(file.c_str());
        if (registry == nullptr || ggml_backend_reg_dev_count(registry) == 0) {
            bench::wrong_call(file + ": ggml cannot load it, or this CPU cannot run it");
        }
        return ggml_backend_reg_dev_get(registry, 0);
    }

    static ggml_backend_dev_t find(const std::string & kind) {
        std::vector<std::string> names;
        for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
            ggml_backend_dev_t device = ggml_backend_dev_get(i);
            const enum ggml_backend_dev_type type = ggml_backend_dev_type(device);
            const bool is_gpu = type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU;
            names.emplace_back(ggml_backend_dev_name(device));
            if ((kind == "cpu" && type == GGML_BACKEND_DEVICE_TYPE_CPU) || (kind == "gpu" && is_gpu) ||
                kind == names.back()) {
                return device;
            }
        }
        bench::wrong_call("ggml finds no device '" + kind + "' on this machine; there is: " + bench::joined(names));
    }

    void * procedure(const char * name) const {
        return ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(handle_), name);
    }

    ggml_backend_dev_t handle_;
    ggml_backend_ptr backend_;
};

// Data in one kind of memory: weights, inputs.
class Room {
public:
    explicit Room(size_t n_tensors) : context_(ggml_init({ggml_tensor_overhead() * n_tensors, nullptr, true})) {}

    ggml_tensor * tensor(ggml_type type, const std::vector<size_t> & sizes) {
        const std::vector<int64_t> ne(sizes.begin(), sizes.end());
        return ggml_new_tensor(context_.get(), type, static_cast<int>(ne.size()), ne.data());
    }

    // Gives every tensor its place; false if there is no room for them.
    bool allocate(ggml_backend_buffer_type_t memory) {
        buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(context_.get(), memory));
        if (buffer_ != nullptr) {
            ggml_backend_buffer_set_usage(buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        }
        return buffer_ != nullptr;
    }

private:
    ggml_context_ptr context_;
    ggml_backend_buffer_ptr buffer_; // freed before the context
};

template <typename Value> void upload(ggml_tensor * tensor, const std::vector<Value> & values) {
    ggml_backend_tensor_set(tensor, values.data(), 0, ggml_nbytes(tensor));
}

inline std::vector<float> download(const ggml_tensor * tensor) {
    std::vector<float> values(static_cast<size_t>(ggml_nelements(tensor)));
    ggml_backend_tensor_get(tensor, values.data(), 0, ggml_nbytes(tensor));
    return values;
}

constexpr size_t most_graphs = 256; // that a cycle consists of

// The same computation on several copies of its data, as graphs that are run in turn: each run finds its data cold.
class Cycle {
public:
    // Computes one copy's result in the context that it is given.
    using Make = std::function<ggml_tensor *(ggml_context * context, size_t copy)>;

    // All copies are spread over at most n_graphs graphs.
    Cycle(Device & device, size_t n_copies, size_t n_graphs, const Make & make)
        : device_(device), n_per_graph_((n_copies + n_graphs - 1) / n_graphs),
          context_(ggml_init({n_copies * n_tensors_most * ggml_tensor_overhead() +
                                  n_graphs * ggml_graph_overhead_custom(n_per_graph_ * n_tensors_most * 2, false),
                              nullptr, true})) {
        for (size_t first = 0; first + n_per_graph_ <= n_copies; first += n_per_graph_) {
            ggml_cgraph * graph = ggml_new_graph_custom(context_.get(), n_per_graph_ * n_tensors_most * 2, false);
            for (size_t copy = first; copy < first + n_per_graph_; ++copy) {
                ggml_tensor * result = make(context_.get(), copy);
                result_ = result_ == nullptr ? result : result_;
                ggml_build_forward_expand(graph, result);
            }
            graphs_.push_back(graph);
        }
        allocate();
    }

    size_t n_per_graph() const { return n_per_graph_; }
    bool allocated() const { return buffer_ != nullptr; }
    std::vector<float> result() const { return download(result_); }

    // True if the device has a kernel for every operation.
    bool supported() const {
        for (int i = 0; i < ggml_graph_n_nodes(graphs_[0]); ++i) {
            if (!device_.supports(ggml_graph_node(graphs_[0], i))) {
                return false;
            }
        }
        return true;
    }

    void compute() { device_.compute(graphs_[next_++ % graphs_.size()]); }

private:
    static constexpr size_t n_tensors_most = 12; // that a computation consists of

    // Every copy's results lie where the first copy's do, as a runtime reuses the memory of what it has read.
    void allocate() {
        std::vector<ggml_tensor *> tensors;
        for (ggml_tensor * t = ggml_get_first_tensor(context_.get()); t != nullptr;
             t = ggml_get_next_tensor(context_.get(), t)) {
            tensors.push_back(t);
        }
        const size_t n_each = tensors.size() / (graphs_.size() * n_per_graph_);
        ggml_backend_buffer_type_t memory = device_.memory();
        std::vector<size_t> offsets(n_each);
        size_t n_bytes = 0;
        for (size_t i = 0; i < n_each; ++i) {
            offsets[i] = n_bytes;
            const size_t size = tensors[i]->view_src != nullptr ? 0 : ggml_backend_buft_get_alloc_size(memory, tensors[i]);
            n_bytes += GGML_PAD(size, ggml_backend_buft_get_alignment(memory));
        }
        buffer_.reset(ggml_backend_buft_alloc_buffer(memory, n_bytes));
        if (buffer_ == nullptr) {
            return;
        }
        auto * const base = static_cast<char *>(ggml_backend_buffer_get_base(buffer_.get()));
        for (size_t i = 0; i < tensors.size(); ++i) {
            if (tensors[i]->view_src != nullptr) {
                ggml_backend_view_init(tensors[i]);
            } else {
                ggml_backend_tensor_alloc(buffer_.get(), tensors[i], base + offsets[i % n_each]);
            }
        }
    }

    Device & device_;
    size_t n_per_graph_, next_ = 0;
    ggml_context_ptr context_;
    ggml_backend_buffer_ptr buffer_; // freed before the context
    ggml_tensor * result_ = nullptr;
    std::vector<ggml_cgraph *> graphs_;
};

} // namespace device
