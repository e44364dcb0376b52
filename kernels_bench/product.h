// A matrix product as the runtime computes it: quantized weights times columns of floats (ggml_mul_mat), with the
// weights cold. Knows its scalar reference.
#pragma once

#include "device.h"
#include "quantization.h"

#include <optional>

namespace product {

using quantization::Matrix;

// Copies of one matrix in a kind of memory of the device, together larger than caches.
class Copies {
public:
    Copies(const Matrix & matrix, ggml_backend_buffer_type_t memory, size_t n_bytes)
        : n_(std::max<size_t>(1, (n_bytes + matrix.n_bytes() - 1) / matrix.n_bytes())), room_(n_) {
        for (size_t i = 0; i < n_; ++i) {
            tensors_.push_back(room_.tensor(matrix.type.type, {matrix.n_columns, matrix.n_rows}));
        }
        allocated_ = room_.allocate(memory);
        if (allocated_) {
            const std::vector<uint8_t> bytes = matrix.bytes();
            for (ggml_tensor * tensor : tensors_) {
                device::upload(tensor, bytes);
            }
        }
    }

    size_t n() const { return n_; }
    bool allocated() const { return allocated_; }
    ggml_tensor * tensor(size_t i) const { return tensors_[i]; }

private:
    size_t n_;
    device::Room room_;
    std::vector<ggml_tensor *> tensors_;
    bool allocated_ = false;
};

// True if the device multiplies by a matrix that lies in this memory. Asked with a buffer of no size, as llama.cpp does.
inline bool can_hold(const device::Device & device, ggml_backend_buffer_type_t memory, const Matrix & matrix) {
    const ggml_context_ptr context(ggml_init({ggml_tensor_overhead() * 4, nullptr, true}));
    const auto n_columns = static_cast<int64_t>(matrix.n_columns);
    ggml_tensor * weights =
        ggml_new_tensor_2d(context.get(), matrix.type.type, n_columns, static_cast<int64_t>(matrix.n_rows));
    ggml_tensor * x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, n_columns, 512);
    const ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(memory, 0));
    weights->buffer = buffer.get();
    return device.supports(ggml_mul_mat(context.get(), weights, x));
}

// The memory for a matrix: the device's own, or with `repacked` the first of its repacking ones that takes it.
inline std::optional<ggml_backend_buffer_type_t> memory_for(const device::Device & device, const Matrix & matrix,
                                                            bool repacked) {
    for (ggml_backend_buffer_type_t memory :
         repacked ? device.repacking_memories() : std::vector<ggml_backend_buffer_type_t>{device.memory()}) {
        if (can_hold(device, memory, matrix)) {
            return memory;
        }
    }
    return std::nullopt;
}

class Product {
public:
    Product(device::Device & device, const Matrix & matrix, const Copies & copies, size_t n_columns, size_t n_graphs)
        : matrix_(matrix), n_columns_(n_columns), values_(quantization::random_values(matrix.n_columns * n_columns, 2)),
          inputs_(1), x_(inputs_.tensor(GGML_TYPE_F32, {matrix.n_columns, n_columns})),
          has_inputs_(inputs_.allocate(device.memory())),
          cycle_(device, copies.n(), n_graphs, [&](ggml_context * context, size_t copy) {
              return ggml_mul_mat(context, copies.tensor(copy), x_);
          }) {
        if (has_inputs_) {
            device::upload(x_, values_);
        }
    }

    bool allocated() const { return has_inputs_ && cycle_.allocated(); }
    bool supported() const { return cycle_.supported(); }
    size_t n_per_run() const { return cycle_.n_per_graph(); }
    void compute() { cycle_.compute(); }

    double n_operations() const {
        return 2.0 * static_cast<double>(matrix_.n_rows) * static_cast<double>(matrix_.n_columns) *
               static_cast<double>(n_columns_);
    }

    // Computes once and compares: every number of a small product, about a thousand of a large one.
    bool check(const std::string & what) {
        cycle_.compute();
        const std::vector<float> result = cycle_.result();
        quantization::Difference difference;
        const size_t row_step = std::max<size_t>(1, matrix_.n_rows / 256);
        const size_t column_step = std::max<size_t>(1, n_columns_ / 4);
        for (size_t c = 0; c < n_columns_; c += column_step) {
            for (size_t r = c % row_step; r < matrix_.n_rows; r += row_step) {
                const float * weights = matrix_.row(r);
                double sum = 0;
                for (size_t k = 0; k < matrix_.n_columns; ++k) {
                    sum += static_cast<double>(weights[k]) * static_cast<double>(values_[c * matrix_.n_columns + k]);
                }
                difference.add(result[c * matrix_.n_rows + r], sum);
            }
        }
        return difference.within(matrix_.type.product_error, what);
    }

private:
    const Matrix & matrix_;
    size_t n_columns_;
    std::vector<float> values_;
    device::Room inputs_;
    ggml_tensor * x_;
    bool has_inputs_;
    device::Cycle cycle_;
};

} // namespace product
