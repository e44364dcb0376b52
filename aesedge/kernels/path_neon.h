// What the paths for 64-bit Arm share: 16 rows in four vectors, and 4 rows in the vectors of products.
#pragma once

#include "path.h"

#if defined(__aarch64__)
#include "multiply.h"
#include "quantize.h"
#include "unpack.h"

#include <arm_neon.h>

#include <utility>

#if defined(__APPLE__)
#include <sys/sysctl.h>
#else
#include <sys/auxv.h>
#endif

namespace kernels {
namespace {

// Whether this CPU has a feature: its bit in Linux's AT_HWCAP, or Apple's name for it.
[[maybe_unused]] inline bool has_feature(unsigned long hwcap_bit, [[maybe_unused]] unsigned long type,
                                         [[maybe_unused]] const char * apple_name) {
#if defined(__APPLE__)
    int found = 0;
    size_t size = sizeof found;
    return sysctlbyname(apple_name, &found, &size, nullptr, 0) == 0 && found != 0;
#else
    return (getauxval(type) >> hwcap_bit & 1) != 0;
#endif
}

struct Floats {
    float32x4_t v[4];
    template <class Make> static Floats each(Make && make) { return {{make(0), make(1), make(2), make(3)}}; }
    Floats operator*(const Floats & other) const {
        return each([&](int i) { return vmulq_f32(v[i], other.v[i]); });
    }
    Floats negated() const {
        return each([&](int i) { return vnegq_f32(v[i]); });
    }
    void store(float * to) const {
        for (int i = 0; i < 4; ++i) {
            vst1q_f32(to + 4 * i, v[i]);
        }
    }
};

struct Rows {
    using Float = Floats;
    uint32x4_t v[4];

    template <class Make> static Rows each(Make && make) { return {{make(0), make(1), make(2), make(3)}}; }
    Rows operator&(uint32_t mask) const {
        return each([&](int i) { return vandq_u32(v[i], vdupq_n_u32(mask)); });
    }
    Rows operator^(uint32_t mask) const {
        return each([&](int i) { return veorq_u32(v[i], vdupq_n_u32(mask)); });
    }
    Rows operator|(const Rows & other) const {
        return each([&](int i) { return vorrq_u32(v[i], other.v[i]); });
    }
    Rows operator>>(int n) const {
        return each([&](int i) { return vshlq_u32(v[i], vdupq_n_s32(-n)); });
    }
    Rows operator<<(int n) const {
        return each([&](int i) { return vshlq_u32(v[i], vdupq_n_s32(n)); });
    }
    Rows shift_signed() const {
        return each([&](int i) { return vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(v[i]), 24)); });
    }
    Floats to_float() const {
        return Floats::each([&](int i) { return vcvtq_f32_s32(vreinterpretq_s32_u32(v[i])); });
    }
    Floats low_halves() const {
        return Floats::each([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(v[i]))); });
    }
    Floats high_halves() const { return (*this >> 16).low_halves(); }
    template <class T> void store(T * to) const {
        auto * const words = reinterpret_cast<uint8_t *>(to);
        for (int i = 0; i < 4; ++i) {
            vst1q_u8(words + 16 * i, vreinterpretq_u8_u32(v[i]));
        }
    }

    static Floats halves(const uint8_t * rows, size_t stride) {
        uint16_t bits[tile_rows];
        for (int row = 0; row < tile_rows; ++row) {
            std::memcpy(&bits[row], rows + static_cast<size_t>(row) * stride, 2);
        }
        return Floats::each([&](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(bits + 4 * i))); });
    }

    template <int N> static void load(const uint8_t * rows, size_t stride, Rows * to) {
        for (int quarter = 0; quarter < 4; ++quarter, rows += 4 * stride) {
            for (int k = 0; k < N; k += 4) {
                load_4(rows + 4 * k, stride, to + k, quarter);
            }
        }
    }

private:
    // 16 bytes of each of 4 rows: words 0..3.
    static void load_4(const uint8_t * rows, size_t stride, Rows * to, int quarter) {
        uint32x4_t row[4];
        for (size_t i = 0; i < 4; ++i) {
            row[i] = vreinterpretq_u32_u8(vld1q_u8(rows + i * stride));
        }
        const auto pairs = [](uint32x4_t a, uint32x4_t b, bool second) {
            return vreinterpretq_u64_u32(second ? vtrn2q_u32(a, b) : vtrn1q_u32(a, b));
        };
        for (int k = 0; k < 2; ++k) { // words k and k + 2 of two rows each
            const uint64x2_t first = pairs(row[0], row[1], k == 1), second = pairs(row[2], row[3], k == 1);
            to[k].v[quarter] = vreinterpretq_u32_u64(vtrn1q_u64(first, second));
            to[k + 2].v[quarter] = vreinterpretq_u32_u64(vtrn2q_u64(first, second));
        }
    }
};

struct NeonLanes {
    static constexpr int n = 4;
    using Float = float32x4_t;
    using Int = int32x4_t;

    static Float zero() { return vdupq_n_f32(0); }
    static Float load(const float * from) { return vld1q_f32(from); }
    static void store(float * to, Float v) { vst1q_f32(to, v); }
    static Float same(float v) { return vdupq_n_f32(v); }
    static Float multiply(Float a, Float b) { return vmulq_f32(a, b); }
    static Float multiply_add(Float a, Float b, Float c) { return vfmaq_f32(c, a, b); }
    static Float to_float(Int v) { return vcvtq_f32_s32(v); }
    static Int zero_int() { return vdupq_n_s32(0); }
    static Int same_int(int32_t v) { return vdupq_n_s32(v); }

    static Int add_pairs(Int sum, const int16_t (&rows)[2], const int16_t (&column)[2]) {
        int32_t pair;
        std::memcpy(&pair, column, sizeof pair);
        const int16x8_t two = vreinterpretq_s16_s32(vdupq_n_s32(pair)), four = vld1q_s16(rows);
        const Int low = vmull_s16(vget_low_s16(four), vget_low_s16(two)), high = vmull_high_s16(four, two);
        return vaddq_s32(sum, vpaddq_s32(low, high));
    }
};

// A path of these rows and lanes.
template <class Lanes> constexpr Path neon_path(const char * name, bool (*runs_here)()) {
    return {
        name,
        runs_here,
        {unpack_q4_k<Rows>, unpack_q5_k<Rows>, unpack_q6_k<Rows>, unpack_q4_0<Rows>, unpack_q8_0<Rows, false>},
        {multiply<Lanes, q4_k>, multiply<Lanes, q5_k>, multiply<Lanes, q6_k>, multiply<Lanes, q4_0>, multiply<Lanes, q8_0>},
        quantize_k<Lanes>,
        quantize_0<Lanes>,
        0,
    };
}

} // namespace

// Of a value that is not negative.
inline float through_half(float value) {
    return vgetq_lane_f32(vcvt_f32_f16(vcvt_f16_f32(vdupq_n_f32(value))), 0);
}

} // namespace kernels
#endif
