// Without vector instructions, one row at a time: what the other paths are compared with, bit by bit.
#include "path.h"

#include "multiply.h"
#include "quantize.h"
#include "unpack.h"

#include <cmath>

namespace kernels {
namespace {

float float_of_half(uint16_t half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    const float sign = half >> 15 != 0 ? -1.0F : 1.0F;
    if (exponent == 31) {
        return sign * float_of(fraction != 0 ? nan_bits : infinity_bits);
    }
    return sign * (exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                 : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25));
}

struct Floats {
    float v[tile_rows];
    Floats operator*(const Floats & other) const {
        Floats product;
        for (int i = 0; i < tile_rows; ++i) {
            product.v[i] = v[i] * other.v[i];
        }
        return product;
    }
    Floats negated() const {
        Floats result;
        for (int i = 0; i < tile_rows; ++i) {
            result.v[i] = -v[i];
        }
        return result;
    }
    void store(float * to) const { std::memcpy(to, v, sizeof v); }
};

struct Rows {
    using Float = Floats;
    uint32_t v[tile_rows];

    template <class Word> static Rows each(Word && word) {
        Rows result;
        for (int i = 0; i < tile_rows; ++i) {
            result.v[i] = word(i);
        }
        return result;
    }
    Rows operator&(uint32_t mask) const { return each([&](int i) { return v[i] & mask; }); }
    Rows operator^(uint32_t mask) const { return each([&](int i) { return v[i] ^ mask; }); }
    Rows operator|(const Rows & other) const { return each([&](int i) { return v[i] | other.v[i]; }); }
    Rows operator>>(int n) const { return each([&](int i) { return v[i] >> n; }); }
    Rows operator<<(int n) const { return each([&](int i) { return v[i] << n; }); }
    Rows shift_signed() const { return each([&](int i) { return static_cast<uint32_t>(static_cast<int32_t>(v[i]) >> 24); }); }
    Floats to_float() const {
        Floats result;
        for (int i = 0; i < tile_rows; ++i) {
            result.v[i] = static_cast<float>(static_cast<int32_t>(v[i]));
        }
        return result;
    }
    Floats low_halves() const {
        Floats result;
        for (int i = 0; i < tile_rows; ++i) {
            result.v[i] = float_of_half(static_cast<uint16_t>(v[i]));
        }
        return result;
    }
    Floats high_halves() const { return (*this >> 16).low_halves(); }
    template <class T> void store(T * to) const { std::memcpy(to, v, sizeof v); }

    static Floats halves(const uint8_t * rows, size_t stride) {
        return each([&](int i) {
                   uint16_t bits;
                   std::memcpy(&bits, rows + static_cast<size_t>(i) * stride, sizeof bits);
                   return uint32_t{bits};
               })
            .low_halves();
    }
    template <int N> static void load(const uint8_t * rows, size_t stride, Rows * to) {
        for (int k = 0; k < N; ++k) {
            for (int i = 0; i < tile_rows; ++i) {
                std::memcpy(&to[k].v[i], rows + static_cast<size_t>(i) * stride + 4 * k, 4);
            }
        }
    }
};

struct Lanes {
    static constexpr int n = 1, n_tiles = 1, n_columns = 4;
    using Float = float;
    using Int = int32_t;

    static Float zero() { return 0; }
    static Float load(const float * from) { return *from; }
    static void store(float * to, Float v) { *to = v; }
    static Float same(float v) { return v; }
    static Float multiply(Float a, Float b) { return a * b; }
    static Float multiply_add(Float a, Float b, Float c) { return std::fma(a, b, c); }
    static Float to_float(Int v) { return static_cast<float>(v); }
    static Int zero_int() { return 0; }
    static Int same_int(int32_t v) { return v; }
    static Int add_pairs(Int sum, const int16_t (&rows)[2], const int16_t (&column)[2]) {
        return sum + rows[0] * column[0] + rows[1] * column[1];
    }

    template <Type type, int n_dwords, int T, int N>
    static void add_dots(Int (&dots)[T][N], const uint8_t * const (&weights)[T], const int8_t (&columns)[4]) {
        const int8_t * const values = columns;
        for (int k = 0; k < n_dwords; ++k) {
            for (int i = 0; i < 4; ++i) {
                const uint8_t w = weights[0][4 * tile_rows * k + i];
                for (int c = 0; c < N; ++c) {
                    const int8_t value = values[4 * (group_columns * k + c) + i];
                    dots[0][c] += (type == q8_0 ? static_cast<int8_t>(w) : w) * value;
                }
            }
        }
    }
};

} // namespace

// Of a value that is not negative: rounded to 11 bits, ties to even, and to multiples of 2^-24 below 2^-14.
float through_half(float value) {
    int exponent;
    std::frexp(value, &exponent);
    const int unit = exponent > -13 ? exponent - 11 : -24;
    const float rounded = std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
    return rounded > 65504.0F ? float_of(infinity_bits) : rounded;
}

const Path scalar_path = {
    "scalar",
    [] { return true; },
    {unpack_q4_k<Rows>, unpack_q5_k<Rows>, unpack_q6_k<Rows>, unpack_q4_0<Rows>, unpack_q8_0<Rows, false>},
    {multiply<Lanes, q4_k>, multiply<Lanes, q5_k>, multiply<Lanes, q6_k>, multiply<Lanes, q4_0>, multiply<Lanes, q8_0>},
    quantize_k<Lanes>,
    quantize_0<Lanes>,
    0,
};

} // namespace kernels
