// Moving floats within a device's memory by ggml's own kernels: copy (b = a) and add (b += a). What a device's bandwidth
// is measured with.
#pragma once

#include "device.h"

namespace transfer {

constexpr size_t n_operations = 8; // in one graph, which hides what a launch costs

class Transfer {
public:
    Transfer(device::Device & device, size_t n)
        : n_(n), room_(2), a_(room_.tensor(GGML_TYPE_F32, {n})), b_(room_.tensor(GGML_TYPE_F32, {n})),
          allocated_(room_.allocate(device.memory())) {
        if (allocated_) {
            using device::Cycle;
            const auto copy = [this](ggml_context * context, size_t) { return ggml_cpy(context, a_, b_); };
            const auto add = [this](ggml_context * context, size_t) { return ggml_add_inplace(context, b_, a_); };
            copy_once_ = std::make_unique<Cycle>(device, 1, 1, copy);
            add_once_ = std::make_unique<Cycle>(device, 1, 1, add);
            copy_ = std::make_unique<Cycle>(device, n_operations, 1, copy);
            add_ = std::make_unique<Cycle>(device, n_operations, 1, add);
            set(std::vector<float>(n, 1), std::vector<float>(n, 0));
        }
    }

    bool allocated() const { return allocated_; }
    void copy() { copy_->compute(); }
    void add() { add_->compute(); }
    double copy_bytes() const { return 2.0 * static_cast<double>(n_ * sizeof(float) * n_operations); }
    double add_bytes() const { return 3.0 * static_cast<double>(n_ * sizeof(float) * n_operations); }

    bool check() {
        std::vector<float> a(n_), twice_a(n_);
        for (size_t i = 0; i < n_; ++i) {
            a[i] = static_cast<float>(i % 1000);
            twice_a[i] = 2 * a[i];
        }
        set(a, std::vector<float>(n_, -1));
        copy_once_->compute();
        if (!holds("copy", a)) {
            return false;
        }
        add_once_->compute();
        return holds("add", twice_a);
    }

private:
    void set(const std::vector<float> & a, const std::vector<float> & b) {
        device::upload(a_, a);
        device::upload(b_, b);
    }

    bool holds(const char * op, const std::vector<float> & expected) const {
        const std::vector<float> values = device::download(b_);
        for (size_t i = 0; i < n_; ++i) {
            if (values[i] != expected[i]) {
                std::fprintf(stderr, "%s: element %zu is %g, must be %g\n", op, i, values[i], expected[i]);
                return false;
            }
        }
        return true;
    }

    size_t n_;
    device::Room room_;
    ggml_tensor *a_, *b_;
    bool allocated_;
    std::unique_ptr<device::Cycle> copy_once_, add_once_, copy_, add_;
};

} // namespace transfer
