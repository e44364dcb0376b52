// AVX2: 8 rows in a vector. Compiled twice: with AVX-VNNI (path_avx_vnni.cpp), which has vpdpbusd for 256 bits, and
// without, where vpmaddubsw adds two products in 16 bits, which must not overflow.
#include "path.h"

#if defined(__x86_64__)
#include "multiply.h"
#include "quantize.h"
#include "unpack.h"

#include <immintrin.h>

namespace kernels {
namespace {

struct Floats {
    __m256 v[2];
    Floats operator*(Floats other) const { return {{_mm256_mul_ps(v[0], other.v[0]), _mm256_mul_ps(v[1], other.v[1])}}; }
    Floats negated() const {
        const __m256 sign = _mm256_set1_ps(-0.0F);
        return {{_mm256_xor_ps(v[0], sign), _mm256_xor_ps(v[1], sign)}};
    }
    void store(float * to) const {
        _mm256_store_ps(to, v[0]);
        _mm256_store_ps(to + 8, v[1]);
    }
};

struct Rows {
    using Float = Floats;
    __m256i v[2];

    static __m256i all(uint32_t mask) { return _mm256_set1_epi32(static_cast<int>(mask)); }
    Rows operator&(uint32_t mask) const { return {{_mm256_and_si256(v[0], all(mask)), _mm256_and_si256(v[1], all(mask))}}; }
    Rows operator^(uint32_t mask) const { return {{_mm256_xor_si256(v[0], all(mask)), _mm256_xor_si256(v[1], all(mask))}}; }
    Rows operator|(Rows other) const { return {{_mm256_or_si256(v[0], other.v[0]), _mm256_or_si256(v[1], other.v[1])}}; }
    Rows operator>>(int n) const { return {{_mm256_srli_epi32(v[0], n), _mm256_srli_epi32(v[1], n)}}; }
    Rows operator<<(int n) const { return {{_mm256_slli_epi32(v[0], n), _mm256_slli_epi32(v[1], n)}}; }
    Rows shift_signed() const { return {{_mm256_srai_epi32(v[0], 24), _mm256_srai_epi32(v[1], 24)}}; }
    Floats to_float() const { return {{_mm256_cvtepi32_ps(v[0]), _mm256_cvtepi32_ps(v[1])}}; }
    Floats low_halves() const { return (*this & 0xFFFF).halves_of_words(); }
    Floats high_halves() const { return (*this >> 16).halves_of_words(); }
    template <class T> void store(T * to) const {
        _mm256_store_si256(reinterpret_cast<__m256i *>(to), v[0]);
        _mm256_store_si256(reinterpret_cast<__m256i *>(to) + 1, v[1]);
    }

    static Floats halves(const uint8_t * rows, size_t stride) {
        alignas(32) uint16_t bits[tile_rows];
        for (int row = 0; row < tile_rows; ++row) {
            std::memcpy(&bits[row], rows + static_cast<size_t>(row) * stride, 2);
        }
        const auto * const from = reinterpret_cast<const __m128i *>(bits);
        return {{_mm256_cvtph_ps(_mm_load_si128(from)), _mm256_cvtph_ps(_mm_load_si128(from + 1))}};
    }

    template <int N> static void load(const uint8_t * rows, size_t stride, Rows * to) {
        for (int half = 0; half < 2; ++half, rows += 8 * stride) {
            if constexpr (N == 8) {
                load_8(rows, stride, to, half);
            } else {
                load_4(rows, stride, to, half);
            }
        }
    }

private:
    Floats halves_of_words() const {
        const auto convert = [](__m256i words) { // all below 2^16
            const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(words, words), 0x08);
            return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
        };
        return {{convert(v[0]), convert(v[1])}};
    }

    // 32 bytes of each of 8 rows: words 0..7.
    static void load_8(const uint8_t * rows, size_t stride, Rows * to, int half) {
        __m256i row[8], two[8], four[8];
        for (size_t i = 0; i < 8; ++i) {
            row[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(rows + i * stride));
        }
        for (int i = 0; i < 8; i += 2) {
            two[i] = _mm256_unpacklo_epi32(row[i], row[i + 1]);
            two[i + 1] = _mm256_unpackhi_epi32(row[i], row[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) { // words k and k + 4 of rows i..i+3
            four[i] = _mm256_unpacklo_epi64(two[i], two[i + 2]);
            four[i + 1] = _mm256_unpackhi_epi64(two[i], two[i + 2]);
            four[i + 2] = _mm256_unpacklo_epi64(two[i + 1], two[i + 3]);
            four[i + 3] = _mm256_unpackhi_epi64(two[i + 1], two[i + 3]);
        }
        for (int k = 0; k < 4; ++k) {
            to[k].v[half] = _mm256_permute2x128_si256(four[k], four[k + 4], 0x20);
            to[k + 4].v[half] = _mm256_permute2x128_si256(four[k], four[k + 4], 0x31);
        }
    }

    // 16 bytes of each of 8 rows: words 0..3.
    static void load_4(const uint8_t * rows, size_t stride, Rows * to, int half) {
        __m256i pair[4], two[4];
        for (size_t i = 0; i < 4; ++i) { // rows i, i + 4
            const auto at = [&](size_t row) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(rows + row * stride)); };
            pair[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(at(i)), at(i + 4), 1);
        }
        for (int i = 0; i < 4; i += 2) {
            two[i] = _mm256_unpacklo_epi32(pair[i], pair[i + 1]);
            two[i + 1] = _mm256_unpackhi_epi32(pair[i], pair[i + 1]);
        }
        to[0].v[half] = _mm256_unpacklo_epi64(two[0], two[2]);
        to[1].v[half] = _mm256_unpackhi_epi64(two[0], two[2]);
        to[2].v[half] = _mm256_unpacklo_epi64(two[1], two[3]);
        to[3].v[half] = _mm256_unpackhi_epi64(two[1], two[3]);
    }
};

struct Lanes {
    static constexpr int n = 8, n_tiles = 2, n_columns = 4; // two tiles share each value, which costs a load
    using Float = __m256;
    using Int = __m256i;

    static Float zero() { return _mm256_setzero_ps(); }
    static Float load(const float * from) { return _mm256_load_ps(from); }
    static void store(float * to, Float v) { _mm256_store_ps(to, v); }
    static Float same(float v) { return _mm256_set1_ps(v); }
    static Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float multiply_add(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static Float to_float(Int v) { return _mm256_cvtepi32_ps(v); }
    static Int zero_int() { return _mm256_setzero_si256(); }
    static Int same_int(int32_t v) { return _mm256_set1_epi32(v); }

    static Int add_pairs(Int sum, const int16_t (&rows)[2], const int16_t (&column)[2]) {
        int32_t pair;
        std::memcpy(&pair, column, sizeof pair);
        const __m256i products = _mm256_madd_epi16(_mm256_load_si256(reinterpret_cast<const __m256i *>(rows)), same_int(pair));
        return _mm256_add_epi32(sum, products);
    }

    template <Type type, int n_dwords, int T, int N>
    static void add_dots(Int (&dots)[T][N], const uint8_t * const (&weights)[T], const int8_t (&columns)[4]) {
        const int8_t * const values = columns;
        const auto weight = [&](int t, int k) {
            return _mm256_load_si256(reinterpret_cast<const __m256i *>(weights[t] + 4 * tile_rows * k));
        };
        const auto value = [&](int k, int c) {
            int32_t four;
            std::memcpy(&four, values + 4 * (group_columns * k + c), sizeof four);
            return _mm256_set1_epi32(four);
        };
#if defined(__AVXVNNI__)
#pragma GCC unroll 8
        for (int k = 0; k < n_dwords; ++k) {
            __m256i w[T];
            for (int t = 0; t < T; ++t) {
                w[t] = weight(t, k);
            }
#pragma GCC unroll 4
            for (int c = 0; c < N; ++c) {
                const __m256i v = value(k, c);
                for (int t = 0; t < T; ++t) {
                    dots[t][c] = _mm256_dpbusd_avx_epi32(dots[t][c], w[t], v);
                }
            }
        }
#else
        // So many sums of two products fit in 16 bits: 8 * 2 * 15 * 127, 4 * 2 * 31 * 127, 2 * 2 * 63 * 127, 2 * 128 * 127.
        constexpr int n_fit = type == q4_k || type == q4_0 ? 8 : type == q5_k ? 4 : type == q6_k ? 2 : 1;
        constexpr int n_in_registers = type == q6_k ? 1 : N; // columns; all weights of a sub-block of 16 stay in registers too
#pragma GCC unroll 8
        for (int first = 0; first < N; first += n_in_registers) {
#pragma GCC unroll 8
            for (int k = 0; k < n_dwords; k += n_fit) {
                __m256i sums[T][n_in_registers];
#pragma GCC unroll 8
                for (int i = k; i < k + n_fit; ++i) {
                    __m256i w[T];
                    for (int t = 0; t < T; ++t) {
                        w[t] = weight(t, i);
                    }
#pragma GCC unroll 4
                    for (int c = 0; c < n_in_registers; ++c) {
                        const __m256i v = value(i, first + c);
                        for (int t = 0; t < T; ++t) {
                            const __m256i products =
                                type == q8_0 ? _mm256_maddubs_epi16(_mm256_abs_epi8(w[t]), _mm256_sign_epi8(v, w[t]))
                                             : _mm256_maddubs_epi16(w[t], v);
                            sums[t][c] = i == k ? products : _mm256_add_epi16(sums[t][c], products);
                            asm("" : "+x"(sums[t][c])); // or GCC keeps all products, on the stack, and adds them up later
                        }
                    }
                }
                for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
                    for (int c = 0; c < n_in_registers; ++c) {
                        Int & dot = dots[t][first + c];
                        dot = _mm256_add_epi32(dot, _mm256_madd_epi16(sums[t][c], _mm256_set1_epi16(1)));
                        asm("" : "+x"(dot));
                    }
                }
            }
        }
#endif
    }
};

bool runs_here() {
#if defined(__AVXVNNI__)
    if (!__builtin_cpu_supports("avxvnni")) {
        return false;
    }
#endif
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

#if defined(__AVXVNNI__)
constexpr bool is_unsigned = true;
#else
constexpr bool is_unsigned = false; // signs go to the values: 255 * 127 * 2 would not fit in 16 bits
#endif

} // namespace

float through_half(float value) {
    return _cvtsh_ss(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
}

#if defined(__AVXVNNI__)
const Path avx_vnni_path = {
    "avx-vnni",
#else
const Path avx2_path = {
    "avx2",
#endif
    runs_here,
    {unpack_q4_k<Rows>, unpack_q5_k<Rows>, unpack_q6_k<Rows>, unpack_q4_0<Rows>, unpack_q8_0<Rows, is_unsigned>},
    {multiply<Lanes, q4_k>, multiply<Lanes, q5_k>, multiply<Lanes, q6_k>, multiply<Lanes, q4_0>, multiply<Lanes, q8_0>},
    quantize_k<Lanes>,
    quantize_0<Lanes>,
    is_unsigned ? 128 : 0,
};

} // namespace kernels
#endif
