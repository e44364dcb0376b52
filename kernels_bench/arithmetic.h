// Peak arithmetic of the CPU: multiply-add in float, bfloat16 and 8-bit integers with the widest instructions that this
// build may use, operands in registers, all threads. The ceiling under which reading a prompt lives.
#pragma once

#include "memory.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace arithmetic {

// Hides from the compiler that an operand never changes: it would compute a product once and only add it.

#if defined(__AVX512F__)
#define AESEDGE_KEEP(x) asm volatile("" : "+v"(x))
#elif defined(__x86_64__)
#define AESEDGE_KEEP(x) asm volatile("" : "+x"(x))
#elif defined(__aarch64__)
#define AESEDGE_KEEP(x) asm volatile("" : "+w"(x))
#else
#define AESEDGE_KEEP(x) asm volatile("" : "+m"(x))
#endif

// Each instruction: its accumulator (Vector of Lanes) and operands, the operations it does, what one step of ones adds
// to a lane, and the step itself.

#if defined(__AVX512F__)
struct Fma {
    using Vector = __m512;
    using Operand = __m512;
    using Lane = float;
    static constexpr const char * name = "AVX-512 FMA";
    static constexpr int n_operations = 32, per_lane = 1;
    static Operand ones() { return _mm512_set1_ps(1); }
    static Vector step(Vector sum, Operand a, Operand b) { return _mm512_fmadd_ps(a, b, sum); }
};
#elif defined(__FMA__)
struct Fma {
    using Vector = __m256;
    using Operand = __m256;
    using Lane = float;
    static constexpr const char * name = "AVX2 FMA";
    static constexpr int n_operations = 16, per_lane = 1;
    static Operand ones() { return _mm256_set1_ps(1); }
    static Vector step(Vector sum, Operand a, Operand b) { return _mm256_fmadd_ps(a, b, sum); }
};
#elif defined(__aarch64__)
struct Fma {
    using Vector = float32x4_t;
    using Operand = float32x4_t;
    using Lane = float;
    static constexpr const char * name = "NEON FMA";
    static constexpr int n_operations = 8, per_lane = 1;
    static Operand ones() { return vdupq_n_f32(1); }
    static Vector step(Vector sum, Operand a, Operand b) { return vfmaq_f32(sum, a, b); }
};
#else
struct Fma {
    using Vector = float;
    using Operand = float;
    using Lane = float;
    static constexpr const char * name = "scalar (a lower bound)";
    static constexpr int n_operations = 2, per_lane = 1;
    static Operand ones() { return 1; }
    static Vector step(Vector sum, Operand a, Operand b) { return sum + a * b; }
};
#endif

#if defined(__AVX512VNNI__)
struct Int8 {
    using Vector = __m512i;
    using Operand = __m512i;
    using Lane = int32_t;
    static constexpr const char * name = "AVX512-VNNI (vpdpbusd)";
    static constexpr int n_operations = 128, per_lane = 4;
    static Operand ones() { return _mm512_set1_epi8(1); }
    static Vector step(Vector sum, Operand a, Operand b) { return _mm512_dpbusd_epi32(sum, a, b); }
};
#elif defined(__AVXVNNI__)
struct Int8 {
    using Vector = __m256i;
    using Operand = __m256i;
    using Lane = int32_t;
    static constexpr const char * name = "AVX-VNNI (vpdpbusd)";
    static constexpr int n_operations = 64, per_lane = 4;
    static Operand ones() { return _mm256_set1_epi8(1); }
    static Vector step(Vector sum, Operand a, Operand b) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
};
#elif defined(__AVX2__) // three instructions where the others take one
struct Int8 {
    using Vector = __m256i;
    using Operand = __m256i;
    using Lane = int32_t;
    static constexpr const char * name = "AVX2 (vpmaddubsw, vpmaddwd, vpaddd)";
    static constexpr int n_operations = 64, per_lane = 4;
    static Operand ones() { return _mm256_set1_epi8(1); }
    static Vector step(Vector sum, Operand & a, Operand b) {
        AESEDGE_KEEP(a);
        return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
    }
};
#elif defined(__ARM_FEATURE_MATMUL_INT8)
struct Int8 {
    using Vector = int32x4_t;
    using Operand = int8x16_t;
    using Lane = int32_t;
    static constexpr const char * name = "NEON i8mm (smmla)";
    static constexpr int n_operations = 64, per_lane = 8;
    static Operand ones() { return vdupq_n_s8(1); }
    static Vector step(Vector sum, Operand a, Operand b) { return vmmlaq_s32(sum, a, b); }
};
#elif defined(__ARM_FEATURE_DOTPROD)
struct Int8 {
    using Vector = int32x4_t;
    using Operand = int8x16_t;
    using Lane = int32_t;
    static constexpr const char * name = "NEON dotprod (sdot)";
    static constexpr int n_operations = 32, per_lane = 4;
    static Operand ones() { return vdupq_n_s8(1); }
    static Vector step(Vector sum, Operand a, Operand b) { return vdotq_s32(sum, a, b); }
};
#else
struct Int8 {
    using Vector = int32_t;
    using Operand = int32_t;
    using Lane = int32_t;
    static constexpr const char * name = "scalar (a lower bound)";
    static constexpr int n_operations = 2, per_lane = 1;
    static Operand ones() { return 1; }
    static Vector step(Vector sum, Operand a, Operand b) { return sum + a * b; }
};
#endif

#if defined(__AVX512BF16__)
#define AESEDGE_HAS_BF16 1
struct Bf16 { // bfloat16 travels as integers: the type __m512bh cannot be handled in every compiler's registers
    using Vector = __m512;
    using Operand = __m512i;
    using Lane = float;
    static constexpr const char * name = "AVX512-BF16 (vdpbf16ps)";
    static constexpr int n_operations = 64, per_lane = 2;
    static Operand ones() { return _mm512_set1_epi16(0x3F80); }
    static Vector step(Vector sum, Operand a, Operand b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
};
#endif

// Enough sums on their way to hide an instruction's latency on every pipe, and few enough to stay in registers.
#if defined(__aarch64__) // up to four pipes
constexpr size_t n_sums = 24;
#else // two pipes; AVX2 has 16 registers
constexpr size_t n_sums = 12;
#endif
constexpr std::make_index_sequence<n_sums> indices;
constexpr size_t n_steps = 1 << 18, n_rounds = 16; // within a round float sums stay exact

// One instruction for each sum. Spelled out by the template, so that the sums live in registers; kept, since one sum
// would stand for all, as they are equal.
template <typename Instruction, size_t... I>
inline void step_all(typename Instruction::Vector (&sums)[n_sums], typename Instruction::Operand & a,
                     typename Instruction::Operand & b, std::index_sequence<I...>) {
    const auto step = [&](typename Instruction::Vector & sum) {
        sum = Instruction::step(sum, a, b);
        AESEDGE_KEEP(sum);
    };
    (step(sums[I]), ...);
}

// One round; false if a lane's sum is not the scalar one.
template <typename Instruction> bool round() {
    using Vector = typename Instruction::Vector;
    using Lane = typename Instruction::Lane;
    Vector sums[n_sums] = {};
    typename Instruction::Operand a = Instruction::ones(), b = Instruction::ones();
    for (size_t step = 0; step < n_steps; ++step) {
        AESEDGE_KEEP(a);
        step_all<Instruction>(sums, a, b, indices);
    }
    Lane lanes[n_sums * (sizeof(Vector) / sizeof(Lane))];
    std::memcpy(lanes, sums, sizeof sums);
    for (const Lane lane : lanes) {
        if (lane != static_cast<Lane>(n_steps * Instruction::per_lane)) {
            return false;
        }
    }
    return true;
}

// All rounds on each thread; false if a sum is wrong.
template <typename Instruction> bool run(size_t n_threads) {
    std::vector<char> right(n_threads, 1);
    memory::in_slices(n_threads, n_threads, [&](size_t, size_t, size_t t) {
        for (size_t i = 0; i < n_rounds; ++i) {
            right[t] &= static_cast<char>(round<Instruction>());
        }
    });
    return std::find(right.begin(), right.end(), 0) == right.end();
}

// One entry for each kind of arithmetic that this build measures.
struct Kind {
    const char * name;
    const char * instruction;
    bool (*run)(size_t n_threads);
    double n_operations; // of one run on one thread
};

template <typename Instruction> Kind kind(const char * name) {
    return {name, Instruction::name, run<Instruction>, double(n_rounds * n_steps * n_sums) * Instruction::n_operations};
}

inline std::vector<Kind> kinds() {
    std::vector<Kind> all = {kind<Fma>("fma_f32"), kind<Int8>("dot_int8")};
#ifdef AESEDGE_HAS_BF16
    all.push_back(kind<Bf16>("dot_bf16"));
#endif
    return all;
}

} // namespace arithmetic
