// GGUF's types of numbers, and matrices in them. The scalar reference for every kernel is here: ggml-base's conversion
// back to float, which shares no code with the kernels of the backends, and sums in double.
#pragma once

#include "arguments.h"

#include <ggml.h>

#include <cmath>
#include <random>

namespace quantization {

// Which arithmetic a backend does its products in on the CPU: the ceiling that a product is held against.
enum class Arithmetic { fma_f32, dot_bf16, dot_int8 };

struct Type {
    const char * name;
    ggml_type type;
    Arithmetic arithmetic;
    double product_error;  // a product with 8-bit or rounded inputs may differ by this from the exact one
    double rounding_error; // a matrix may differ by this from what was quantized
};                         // both: sum of squared errors relative to the sum of squares

// All that ggml quantizes to without an importance matrix, but for iq1_m: that takes it 15 seconds for a few rows.
inline const std::vector<Type> & types() {
    constexpr Arithmetic int8 = Arithmetic::dot_int8;
    static const std::vector<Type> all = {
        {"f32", GGML_TYPE_F32, Arithmetic::fma_f32, 1e-6, 0},
        {"f16", GGML_TYPE_F16, Arithmetic::fma_f32, 1e-6, 1e-7},
        {"bf16", GGML_TYPE_BF16, Arithmetic::dot_bf16, 1e-5, 1e-5},
        {"q8_0", GGML_TYPE_Q8_0, int8, 2e-4, 4e-5},
        {"q4_0", GGML_TYPE_Q4_0, int8, 2e-4, 1e-2},
        {"q4_1", GGML_TYPE_Q4_1, int8, 2e-4, 1e-2},
        {"q5_0", GGML_TYPE_Q5_0, int8, 2e-4, 4e-3},
        {"q5_1", GGML_TYPE_Q5_1, int8, 2e-4, 4e-3},
        {"q2_k", GGML_TYPE_Q2_K, int8, 2e-4, 0.15},
        {"q3_k", GGML_TYPE_Q3_K, int8, 2e-4, 4e-2},
        {"q4_k", GGML_TYPE_Q4_K, int8, 2e-4, 1e-2},
        {"q5_k", GGML_TYPE_Q5_K, int8, 2e-4, 4e-3},
        {"q6_k", GGML_TYPE_Q6_K, int8, 2e-4, 1e-3},
        {"iq2_s", GGML_TYPE_IQ2_S, int8, 2e-4, 0.15},
        {"iq3_xxs", GGML_TYPE_IQ3_XXS, int8, 2e-4, 0.1},
        {"iq3_s", GGML_TYPE_IQ3_S, int8, 2e-4, 6e-2},
        {"iq4_nl", GGML_TYPE_IQ4_NL, int8, 2e-4, 1e-2},
        {"iq4_xs", GGML_TYPE_IQ4_XS, int8, 2e-4, 1e-2},
    };
    return all;
}

// By their names; an unknown one ends the program.
inline std::vector<Type> chosen(const std::vector<std::string> & names) {
    std::vector<Type> found;
    for (const std::string & name : names) {
        const auto known = std::find_if(types().begin(), types().end(), [&](const Type & type) { return type.name == name; });
        if (known == types().end()) {
            std::vector<std::string> all;
            for (const Type & type : types()) {
                all.emplace_back(type.name);
            }
            bench::wrong_call("unknown type '" + name + "'; there is: " + bench::joined(all));
        }
        found.push_back(*known);
    }
    return found;
}

inline std::string all_names() {
    std::string names;
    for (const Type & type : types()) {
        names += (names.empty() ? "" : ",") + std::string(type.name);
    }
    return names;
}

// The same numbers for the same seed on every machine.
inline std::vector<float> random_values(size_t n, unsigned seed) {
    std::mt19937 generator(seed);
    std::vector<float> values(n);
    for (float & value : values) {
        value = static_cast<float>(generator() >> 8) / static_cast<float>(1 << 23) - 1;
    }
    return values;
}

// Quantized rows. Many rows are a pattern of fewer, since quantizing takes long and speed does not depend on values.
class Matrix {
public:
    static constexpr size_t n_distinct_most = 61; // prime: a row mistaken for one some blocks away has other values

    Matrix(const Type & type, size_t n_rows, size_t n_columns, unsigned seed = 1)
        : type(type), n_rows(n_rows), n_columns(n_columns), n_distinct_(std::min(n_rows, n_distinct_most)),
          original_(random_values(n_distinct_ * n_columns, seed)), values_(n_distinct_ * n_columns),
          row_bytes_(ggml_row_size(type.type, static_cast<int64_t>(n_columns))), pattern_(n_distinct_ * row_bytes_) {
        ggml_quantize_chunk(type.type, original_.data(), pattern_.data(), 0, static_cast<int64_t>(n_distinct_),
                            static_cast<int64_t>(n_columns), nullptr);
        const ggml_to_float_t to_float = ggml_get_type_traits(type.type)->to_float;
        if (to_float == nullptr) { // f32 is float already
            values_ = original_;
        } else {
            to_float(pattern_.data(), values_.data(), static_cast<int64_t>(values_.size()));
        }
    }

    static bool fits(const Type & type, size_t n_columns) {
        return n_columns % static_cast<size_t>(ggml_blck_size(type.type)) == 0;
    }

    size_t n_bytes() const { return n_rows * row_bytes_; }
    const float * row(size_t i) const { return &values_[i % n_distinct_ * n_columns]; }
    const std::vector<float> & original() const { return original_; }
    const std::vector<float> & values() const { return values_; } // of the distinct rows

    std::vector<uint8_t> bytes() const {
        std::vector<uint8_t> all;
        all.reserve(n_bytes());
        for (size_t row = 0; row < n_rows; row += n_distinct_) {
            const size_t n = std::min(n_distinct_, n_rows - row);
            all.insert(all.end(), pattern_.begin(), pattern_.begin() + static_cast<ptrdiff_t>(n * row_bytes_));
        }
        return all;
    }

    const Type type;
    const size_t n_rows, n_columns;

private:
    size_t n_distinct_;
    std::vector<float> original_, values_;
    size_t row_bytes_;
    std::vector<uint8_t> pattern_;
};

// How far values are from those of the reference: sum of squared errors relative to the sum of squares.
class Difference {
public:
    void add(double value, double reference) {
        errors_ += (value - reference) * (value - reference);
        squares_ += reference * reference;
    }

    // False, with a line that says so, if they are farther than that. What is not a number never is near enough.
    bool within(double limit, const std::string & what) const {
        const double relative = squares_ > 0 ? errors_ / squares_ : errors_;
        if (relative <= limit) {
            return true;
        }
        std::fprintf(stderr, "%s: differs from the scalar reference by %g of its square, must be within %g\n", what.c_str(),
                     relative, limit);
        return false;
    }

private:
    double errors_ = 0, squares_ = 0;
};

} // namespace quantization
