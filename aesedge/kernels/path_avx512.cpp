// AVX-512 with VNNI: 16 rows in a vector; vpdpbusd multiplies four unsigned weights by four signed values and adds up.
#include "path.h"

#if defined(__x86_64__)
#include "multiply.h"
#include "quantize.h"
#include "unpack.h"

#include <immintrin.h>

namespace kernels {
namespace {

struct Floats {
    __m512 v;
    Floats operator*(Floats other) const { return {_mm512_mul_ps(v, other.v)}; }
    Floats negated() const { return {_mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), _mm512_set1_epi32(INT32_MIN)))}; }
    void store(float * to) const { _mm512_store_ps(to, v); }
};

struct Rows {
    using Float = Floats;
    __m512i v;

    Rows operator&(uint32_t mask) const { return {_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(mask)))}; }
    Rows operator^(uint32_t mask) const { return {_mm512_xor_si512(v, _mm512_set1_epi32(static_cast<int>(mask)))}; }
    Rows operator|(Rows other) const { return {_mm512_or_si512(v, other.v)}; }
    Rows operator>>(int n) const { return {_mm512_srli_epi32(v, static_cast<unsigned>(n))}; }
    Rows operator<<(int n) const { return {_mm512_slli_epi32(v, static_cast<unsigned>(n))}; }
    Rows shift_signed() const { return {_mm512_srai_epi32(v, 24)}; }
    Floats to_float() const { return {_mm512_cvtepi32_ps(v)}; }
    Floats low_halves() const { return {_mm512_cvtph_ps(_mm512_cvtepi32_epi16(v))}; }
    Floats high_halves() const { return (*this >> 16).low_halves(); }
    template <class T> void store(T * to) const { _mm512_store_si512(to, v); }

    static Floats halves(const uint8_t * rows, size_t stride) {
        alignas(32) uint16_t bits[tile_rows];
        for (int row = 0; row < tile_rows; ++row) {
            std::memcpy(&bits[row], rows + static_cast<size_t>(row) * stride, 2);
        }
        return {_mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i *>(bits)))};
    }

    template <int N> static void load(const uint8_t * rows, size_t stride, Rows * to) {
        if constexpr (N == 8) {
            load_8(rows, stride, to);
        } else {
            load_4(rows, stride, to);
        }
    }

private:
    // 32 bytes of each row: words 0..7 of 16 rows.
    static void load_8(const uint8_t * rows, size_t stride, Rows * to) {
        __m512i pair[8], two[8], four[8];
        for (size_t i = 0; i < 8; ++i) { // row i, row i + 8
            const auto * const low = reinterpret_cast<const __m256i *>(rows + i * stride);
            const auto * const high = reinterpret_cast<const __m256i *>(rows + (i + 8) * stride);
            pair[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(low)), _mm256_loadu_si256(high), 1);
        }
        for (int i = 0; i < 4; ++i) {
            two[2 * i] = _mm512_unpacklo_epi32(pair[2 * i], pair[2 * i + 1]);
            two[2 * i + 1] = _mm512_unpackhi_epi32(pair[2 * i], pair[2 * i + 1]);
        }
        for (int i = 0; i < 8; i += 4) { // words k and k + 4 of rows i..i+3, then of rows i+8..i+11
            four[i] = _mm512_unpacklo_epi64(two[i], two[i + 2]);
            four[i + 1] = _mm512_unpackhi_epi64(two[i], two[i + 2]);
            four[i + 2] = _mm512_unpacklo_epi64(two[i + 1], two[i + 3]);
            four[i + 3] = _mm512_unpackhi_epi64(two[i + 1], two[i + 3]);
        }
        const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
        for (int k = 0; k < 4; ++k) {
            to[k].v = _mm512_permutex2var_epi64(four[k], low, four[k + 4]);
            to[k + 4].v = _mm512_permutex2var_epi64(four[k], high, four[k + 4]);
        }
    }

    // 16 bytes of each row: words 0..3.
    static void load_4(const uint8_t * rows, size_t stride, Rows * to) {
        __m512i quad[4], two[4];
        for (size_t i = 0; i < 4; ++i) { // rows i, i + 4, i + 8, i + 12
            const auto at = [&](size_t row) { return _mm_loadu_si128(reinterpret_cast<const __m128i *>(rows + row * stride)); };
            quad[i] = _mm512_castsi128_si512(at(i));
            quad[i] = _mm512_inserti32x4(quad[i], at(i + 4), 1);
            quad[i] = _mm512_inserti32x4(quad[i], at(i + 8), 2);
            quad[i] = _mm512_inserti32x4(quad[i], at(i + 12), 3);
        }
        for (int i = 0; i < 2; ++i) {
            two[2 * i] = _mm512_unpacklo_epi32(quad[2 * i], quad[2 * i + 1]);
            two[2 * i + 1] = _mm512_unpackhi_epi32(quad[2 * i], quad[2 * i + 1]);
        }
        to[0].v = _mm512_unpacklo_epi64(two[0], two[2]);
        to[1].v = _mm512_unpackhi_epi64(two[0], two[2]);
        to[2].v = _mm512_unpacklo_epi64(two[1], two[3]);
        to[3].v = _mm512_unpackhi_epi64(two[1], two[3]);
    }
};

struct Lanes {
    static constexpr int n = 16, n_tiles = 2, n_columns = group_columns;
    using Float = __m512;
    using Int = __m512i;

    static Float zero() { return _mm512_setzero_ps(); }
    static Float load(const float * from) { return _mm512_load_ps(from); }
    static void store(float * to, Float v) { _mm512_store_ps(to, v); }
    static Float same(float v) { return _mm512_set1_ps(v); }
    static Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float multiply_add(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float to_float(Int v) { return _mm512_cvtepi32_ps(v); }
    static Int zero_int() { return _mm512_setzero_si512(); }
    static Int same_int(int32_t v) { return _mm512_set1_epi32(v); }

    static Int add_pairs(Int sum, const int16_t (&rows)[2], const int16_t (&column)[2]) {
        int32_t pair;
        std::memcpy(&pair, column, sizeof pair);
        return _mm512_dpwssd_epi32(sum, _mm512_load_si512(rows), _mm512_set1_epi32(pair));
    }

    template <Type, int n_dwords, int T, int N>
    static void add_dots(Int (&dots)[T][N], const uint8_t * const (&weights)[T], const int8_t (&columns)[4]) {
        const int8_t * const values = columns;
#pragma GCC unroll 8
        for (int k = 0; k < n_dwords; ++k) {
            __m512i w[T];
            for (int t = 0; t < T; ++t) {
                w[t] = _mm512_load_si512(weights[t] + 4 * tile_rows * k);
            }
#pragma GCC unroll 8
            for (int c = 0; c < N; ++c) {
                int32_t four;
                std::memcpy(&four, values + 4 * (group_columns * k + c), sizeof four);
                for (int t = 0; t < T; ++t) {
                    dots[t][c] = _mm512_dpbusd_epi32(dots[t][c], w[t], _mm512_set1_epi32(four));
                }
            }
        }
    }
};

bool runs_here() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("avx2");
}

} // namespace

float through_half(float value) {
    return _cvtsh_ss(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
}

const Path avx512_path = {
    "avx512",
    runs_here,
    {unpack_q4_k<Rows>, unpack_q5_k<Rows>, unpack_q6_k<Rows>, unpack_q4_0<Rows>, unpack_q8_0<Rows, true>},
    {multiply<Lanes, q4_k>, multiply<Lanes, q5_k>, multiply<Lanes, q6_k>, multiply<Lanes, q4_0>, multiply<Lanes, q8_0>},
    quantize_k<Lanes>,
    quantize_0<Lanes>,
    128,
};

} // namespace kernels
#endif
