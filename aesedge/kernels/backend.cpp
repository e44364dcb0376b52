// A ggml backend for products of quantized weights with 2 to 4,096 columns. Like ggml's own BLAS backend it is of the kind
// ACCEL: llama.cpp asks it before the CPU backend whether it takes a product, and leaves weights and results in the CPU's
// memory.
#include "backend_abi.h"
#include "product.h"
#include "team.h"

#include <ggml.h>

#include <new>
#include <string_view>
#include <thread>
#include <vector>

#ifndef AESEDGE_GGML
#error "AESEDGE_GGML: version and commit of the ggml that the headers are of"
#endif

// Read from the file before it is loaded: what it was compiled for.
extern "C" __attribute__((visibility("default"), used)) const char aesedge_kernels_for[] = "aesedge kernels for ggml " AESEDGE_GGML;

namespace {

using namespace kernels;

constexpr int64_t least_columns = 2, most_columns = 4096;

struct Free {
    void operator()(void * memory) const { ::operator delete(memory, std::align_val_t{64}); }
};

template <class T> std::unique_ptr<T, Free> aligned(size_t n) {
    return std::unique_ptr<T, Free>(static_cast<T *>(::operator new(n * sizeof(T), std::align_val_t{64})));
}

struct State {
    explicit State(const Path * path) : path(path) {}

    const Path * const path;
    int n_threads = 1;
    bool (*should_abort)(void *) = nullptr;
    void * abort_data = nullptr;
    std::unique_ptr<Columns, Free> columns;
    size_t n_columns = 0;
    std::unique_ptr<Scratch, Free> scratch;
    int n_scratch = 0;
};

State & state_of(ggml_backend_t backend) {
    return *static_cast<State *>(backend->context);
}

bool find_type(ggml_type type, Type * found) {
    switch (type) {
    case GGML_TYPE_Q4_K: *found = q4_k; return true;
    case GGML_TYPE_Q5_K: *found = q5_k; return true;
    case GGML_TYPE_Q6_K: *found = q6_k; return true;
    case GGML_TYPE_Q4_0: *found = q4_0; return true;
    case GGML_TYPE_Q8_0: *found = q8_0; return true;
    default: return false;
    }
}

bool is_matrix(const ggml_tensor * tensor) {
    return tensor->ne[2] == 1 && tensor->ne[3] == 1;
}

bool is_in_host_memory(const ggml_tensor * tensor) {
    ggml_backend_buffer_t buffer = tensor->view_src != nullptr ? tensor->view_src->buffer : tensor->buffer;
    return buffer == nullptr || ggml_backend_buft_is_host(ggml_backend_buffer_get_type(buffer));
}

bool takes(const ggml_tensor * op) {
    const ggml_tensor * const weights = op->src[0];
    const ggml_tensor * const x = op->src[1];
    Type type;
    return op->op == GGML_OP_MUL_MAT && find_type(weights->type, &type) && x->type == GGML_TYPE_F32 &&
           op->type == GGML_TYPE_F32 && is_matrix(weights) && is_matrix(x) && is_matrix(op) && x->ne[1] >= least_columns &&
           x->ne[1] <= most_columns && weights->ne[0] == x->ne[0] &&
           weights->ne[0] % static_cast<int64_t>(layouts[type].block_weights) == 0 &&
           weights->nb[0] == ggml_type_size(weights->type) && weights->nb[1] >= ggml_row_size(weights->type, weights->ne[0]) &&
           x->nb[0] == sizeof(float) && x->nb[1] % sizeof(float) == 0 && op->nb[0] == sizeof(float) &&
           is_in_host_memory(weights) && is_in_host_memory(x);
}

// All products of a graph, with the columns that several of them share quantized once.
class Plan {
public:
    Plan(const Path & path, ggml_cgraph * graph) {
        const int n = ggml_graph_n_nodes(graph);
        products_.reset(new Product[static_cast<size_t>(n)]);
        columns_.reset(new Quantized[static_cast<size_t>(n)]);
        for (int i = 0; i < n; ++i) {
            const ggml_tensor * const node = ggml_graph_node(graph, i);
            if (node->op == GGML_OP_MUL_MAT && ggml_nelements(node) > 0) {
                add(path, node);
            }
        }
    }

    size_t n_products() const { return n_products_; }
    size_t n_column_blocks() const { return n_blocks_; }

    void place(Columns * memory) {
        for (size_t i = 0; i < n_quantized_; ++i) {
            columns_[i].to = memory;
            memory += columns_[i].n_spans() * columns_[i].n_groups();
        }
    }

    // The part of one thread. Whoever finds no piece left waits for the others only where their results are needed.
    void run(const Path & path, Scratch & scratch) {
        for (size_t i = 0; i < n_products_; ++i) {
            Quantized & columns = *products_[i].columns;
            const int64_t n = columns.n_spans() * columns.n_groups();
            if (columns.n_done.load(std::memory_order_acquire) < n) {
                for (size_t before = 0; before < i; ++before) { // one of them may make these columns
                    wait(products_[before].n_done, products_[before].n_pieces());
                }
                quantize_columns(path, columns);
                wait(columns.n_done, n);
            }
            multiply_pieces(path, products_[i], scratch);
        }
    }

private:
    void add(const Path & path, const ggml_tensor * node) {
        const ggml_tensor * const weights = node->src[0];
        const ggml_tensor * const x = node->src[1];
        Product & product = products_[n_products_++];
        find_type(weights->type, &product.type);
        product.weights = static_cast<const uint8_t *>(weights->data);
        product.weights_stride = weights->nb[1];
        product.n_rows = weights->ne[1];
        product.out = static_cast<uint8_t *>(node->data);
        product.out_stride = node->nb[1];
        const Layout & layout = layouts[product.type];
        const int offset = product.type == q8_0 ? path.q8_0_offset : layout.offset;
        const bool is_k = layout.form != Form::thirty_twos;
        for (size_t i = 0; i < n_quantized_ && product.columns == nullptr; ++i) {
            const bool fits = is_k ? columns_[i].form != Form::thirty_twos
                                   : columns_[i].form == layout.form && columns_[i].offset == offset;
            product.columns = columns_[i].source == x && fits ? &columns_[i] : nullptr;
        }
        if (product.columns == nullptr) {
            product.columns = &columns_[n_quantized_++];
            product.columns->source = x;
            product.columns->form = layout.form;
            product.columns->offset = offset;
            product.columns->x = static_cast<const uint8_t *>(x->data);
            product.columns->x_stride = x->nb[1];
            product.columns->n_inputs = x->ne[0];
            product.columns->n_columns = x->ne[1];
            n_blocks_ += static_cast<size_t>(product.columns->n_spans() * product.columns->n_groups());
        }
    }

    static void wait(const std::atomic<int64_t> & n_done, int64_t n) {
        for (int spins = 0; n_done.load(std::memory_order_acquire) < n; ++spins) {
            if (spins > 1000) { // the other thread may be without a core
                std::this_thread::yield();
            }
        }
    }

    std::unique_ptr<Product[]> products_;
    std::unique_ptr<Quantized[]> columns_;
    size_t n_products_ = 0, n_quantized_ = 0, n_blocks_ = 0;
};

enum ggml_status compute(ggml_backend_t backend, ggml_cgraph * graph) try {
    State & state = state_of(backend);
    if (state.should_abort != nullptr && state.should_abort(state.abort_data)) {
        return GGML_STATUS_ABORTED;
    }
    Plan plan(*state.path, graph);
    if (plan.n_products() == 0) {
        return GGML_STATUS_SUCCESS;
    }
    if (state.n_columns < plan.n_column_blocks()) {
        state.columns.reset();
        state.n_columns = 0;
        state.columns = aligned<Columns>(plan.n_column_blocks());
        state.n_columns = plan.n_column_blocks();
    }
    if (state.n_scratch < state.n_threads) {
        state.scratch.reset();
        state.n_scratch = 0;
        state.scratch = aligned<Scratch>(static_cast<size_t>(state.n_threads));
        state.n_scratch = state.n_threads;
    }
    plan.place(state.columns.get());
    std::atomic<int> n_started{0};
    run_team(state.n_threads, [&] {
        const int i = n_started.fetch_add(1);
        if (i < state.n_scratch) {
            plan.run(*state.path, state.scratch.get()[i]);
        }
    });
    return GGML_STATUS_SUCCESS;
} catch (const std::bad_alloc &) {
    return GGML_STATUS_ALLOC_FAILED;
} catch (...) { // threads cannot be started
    return GGML_STATUS_FAILED;
}

void set_n_threads(ggml_backend_t backend, int n_threads) {
    state_of(backend).n_threads = n_threads < 1 ? 1 : n_threads;
}

void set_abort_callback(ggml_backend_t backend, bool (*callback)(void *), void * data) {
    state_of(backend).should_abort = callback;
    state_of(backend).abort_data = data;
}

ggml_backend_t init(ggml_backend_dev_t device, const char *) {
    static uint8_t guid[16] = {0x61, 0x65, 0x73, 0x65, 0x64, 0x67, 0x65, 0x2D, 0x6B, 0x65, 0x72, 0x6E, 0x65, 0x6C, 0x73, 0x31};
    abi::BackendFunctions functions = {};
    functions.get_name = [](ggml_backend_t) { return "aesedge"; };
    functions.free = [](ggml_backend_t backend) {
        delete &state_of(backend);
        delete backend;
    };
    functions.graph_compute = compute;
    if (best_path() == nullptr) { // AESEDGE_KERNELS_PATH was changed meanwhile
        return nullptr;
    }
    return new ggml_backend{&guid, functions, device, new State(best_path())};
}

ggml_backend_reg_t registry();

ggml_backend_dev_t device() {
    static ggml_backend_device only = [] {
        abi::DeviceFunctions functions = {};
        functions.get_name = [](ggml_backend_dev_t) { return "aesedge"; };
        functions.get_description = [](ggml_backend_dev_t) { return best_path() != nullptr ? best_path()->name : "none"; };
        functions.get_memory = [](ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = 0; };
        functions.get_type = [](ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_ACCEL; };
        functions.get_props = [](ggml_backend_dev_t self, ggml_backend_dev_props * props) {
            *props = {};
            props->name = self->functions.get_name(self);
            props->description = self->functions.get_description(self);
            props->type = GGML_BACKEND_DEVICE_TYPE_ACCEL;
        };
        functions.init_backend = init;
        functions.get_buffer_type = [](ggml_backend_dev_t) { return ggml_backend_cpu_buffer_type(); };
        functions.supports_op = [](ggml_backend_dev_t, const ggml_tensor * op) {
            switch (op->op) {
            case GGML_OP_NONE:
            case GGML_OP_RESHAPE:
            case GGML_OP_VIEW:
            case GGML_OP_PERMUTE:
            case GGML_OP_TRANSPOSE: return true; // nothing to compute
            default: return takes(op);
            }
        };
        functions.supports_buft = [](ggml_backend_dev_t, ggml_backend_buffer_type_t type) { return ggml_backend_buft_is_host(type); };
        return ggml_backend_device{functions, registry(), nullptr};
    }();
    return &only;
}

ggml_backend_reg_t registry() {
    static ggml_backend_reg only = [] {
        abi::RegistryFunctions functions = {};
        functions.get_name = [](ggml_backend_reg_t) { return "aesedge"; };
        functions.get_device_count = [](ggml_backend_reg_t) { return size_t{1}; };
        functions.get_device = [](ggml_backend_reg_t, size_t) { return device(); };
        functions.get_proc_address = [](ggml_backend_reg_t, const char * name) -> void * {
            const std::string_view wanted = name;
            if (wanted == "ggml_backend_set_n_threads") {
                return reinterpret_cast<void *>(set_n_threads);
            }
            if (wanted == "ggml_backend_set_abort_callback") {
                return reinterpret_cast<void *>(set_abort_callback);
            }
            return nullptr;
        };
        return ggml_backend_reg{abi::version, functions, nullptr};
    }();
    return &only;
}

} // namespace

extern "C" {

// What ggml_backend_load looks for. A score of 0: this CPU runs none of the paths.
__attribute__((visibility("default"))) int ggml_backend_score() {
    return best_path() != nullptr ? 1 : 0;
}

__attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init() {
    return best_path() != nullptr ? registry() : nullptr;
}

// The path's name, or null.
__attribute__((visibility("default"))) const char * aesedge_kernels_path() {
    return best_path() != nullptr ? best_path()->name : nullptr;
}

} // extern "C"
