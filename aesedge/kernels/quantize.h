// Quantizing columns to 8 bits as ggml's CPU backend does (types q8_K and q8_0), so that its products and these differ by
// the rounding of float sums alone. Plain loops: the compiler turns them into vectors for each path's CPU.
#pragma once

#include "blocks.h"

#include <cstring>

namespace kernels {

constexpr uint32_t infinity_bits = 0x7F800000, nan_bits = 0x7FC00000;
constexpr float smallest = 1e-30F; // below it, 127 / x is no longer finite

static inline float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// The greatest absolute value; infinite or not a number if one of the values is.
template <int N> static inline float greatest(const float * x) {
    uint32_t bits[N], most = 0;
    std::memcpy(bits, x, sizeof bits);
    for (int i = 0; i < N; ++i) { // without their sign, floats compare as integers do
        const uint32_t magnitude = bits[i] & 0x7FFFFFFF;
        most = magnitude > most ? magnitude : most;
    }
    return float_of(most);
}

// x times the factor, rounded to the nearest integer, ties to even: the sum's lowest bits hold it.
template <int N> static inline void round_all(const float * x, float factor, int8_t * q) {
    constexpr float magic = 12582912.0F; // 1.5 * 2^23
    float shifted[N];
    uint32_t bits[N];
    for (int i = 0; i < N; ++i) {
        shifted[i] = x[i] * factor + magic;
    }
    std::memcpy(bits, shifted, sizeof bits);
    for (int i = 0; i < N; ++i) {
        q[i] = static_cast<int8_t>(bits[i]);
    }
}

template <int N> static inline int32_t sum_of(const int8_t * q) {
    int32_t sum = 0;
    for (int i = 0; i < N; ++i) {
        sum += q[i];
    }
    return sum;
}

template <class Tag> static void quantize_k(const float * x, int c, Columns & columns) {
    const float most = greatest<span>(x);
    int8_t q[span] = {};
    float d = 0;
    if (!(most < float_of(infinity_bits))) {
        d = float_of(nan_bits); // every product with this column says so
    } else if (most > smallest) {
        const float factor = 127.0F / most;
        round_all<span>(x, factor, q);
        d = 1 / factor;
    }
    columns.d[0][c] = d;
    for (int k = 0; k < span / 4; ++k) {
        std::memcpy(columns.q[k][c], q + 4 * k, 4);
    }
    for (int j = 0; j < 16; ++j) {
        const int32_t sum = sum_of<16>(q + 16 * j);
        columns.start[j][c] = -layouts[q6_k].offset * sum;
        int16_t & pair = columns.pairs[j / 4][c][j / 2 % 2];
        pair = static_cast<int16_t>((j % 2 ? pair : 0) + sum);
    }
}

// A float as it is after it was a half, which is what ggml keeps of a scale.
static inline float through_half(float value);

template <class Tag> static void quantize_0(const float * x, int n, int c, int offset, Columns & columns) {
    for (int j = 0; 32 * j < n; ++j) {
        const float most = greatest<32>(x + 32 * j);
        int8_t q[32] = {};
        float d = 0;
        if (!(most < float_of(infinity_bits))) {
            d = float_of(nan_bits);
        } else if (most > smallest) {
            round_all<32>(x + 32 * j, 127.0F / most, q);
            d = through_half(most / 127.0F);
        }
        columns.d[j][c] = d;
        columns.start[j][c] = -offset * sum_of<32>(q);
        for (int k = 0; k < 8; ++k) {
            std::memcpy(columns.q[8 * j + k][c], q + 4 * k, 4);
        }
    }
}

} // namespace kernels
