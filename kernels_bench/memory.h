// Reading, copying and triad (a = b + s * c) of arrays in main memory, split over threads: what the CPU's bandwidth is
// measured with. Knows nothing of ggml.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

namespace memory {

constexpr float scale = 3.0F;

// Calls work(first, last, thread) on n elements in equal slices.
template <typename Work> void in_slices(size_t n, size_t n_threads, Work && work) {
    std::vector<std::thread> threads;
    for (size_t t = 0; t < n_threads; ++t) {
        threads.emplace_back([&, t] { work(n * t / n_threads, n * (t + 1) / n_threads, t); });
    }
    for (std::thread & thread : threads) {
        thread.join();
    }
}

// Small whole numbers, so that float arithmetic is exact whether or not it is fused.
inline float b_at(size_t i) { return static_cast<float>(i % 1000); }
inline float c_at(size_t i) { return static_cast<float>(i % 7); }
inline uint64_t word_at(size_t i) { return i * 0x9E3779B97F4A7C15U; }

// Words to be read. The memory is first touched by the thread that reads it, so its pages come to lie near that one.
class Words {
public:
    Words(size_t n, size_t n_threads) : n_(n), n_threads_(n_threads), words_(new uint64_t[n]), sums_(n_threads) {
        in_slices(n_, n_threads_, [&](size_t first, size_t last, size_t) {
            for (size_t i = first; i < last; ++i) {
                words_[i] = word_at(i);
            }
        });
        for (size_t i = 0; i < n_; ++i) {
            sum_ += word_at(i);
        }
    }

    size_t n_bytes() const { return n_ * sizeof(uint64_t); }

    // Reads all; false if the sum is not the scalar one, which also keeps compilers from dropping the reading.
    bool read() {
        in_slices(n_, n_threads_, [&](size_t first, size_t last, size_t t) {
            uint64_t sum = 0;
            for (size_t i = first; i < last; ++i) {
                sum += words_[i];
            }
            sums_[t] = sum;
        });
        uint64_t sum = 0;
        for (const uint64_t part : sums_) {
            sum += part;
        }
        return sum == sum_;
    }

private:
    size_t n_, n_threads_;
    std::unique_ptr<uint64_t[]> words_;
    std::vector<uint64_t> sums_;
    uint64_t sum_ = 0;
};

// Three arrays of floats.
class Arrays {
public:
    Arrays(size_t n, size_t n_threads)
        : n_(n), n_threads_(n_threads), a_(new float[n]), b_(new float[n]), c_(new float[n]) {
        in_slices(n_, n_threads_, [&](size_t first, size_t last, size_t) {
            for (size_t i = first; i < last; ++i) {
                a_[i] = -1;
                b_[i] = b_at(i);
                c_[i] = c_at(i);
            }
        });
    }

    size_t n_bytes() const { return n_ * sizeof(float); }

    void copy() {
        in_slices(n_, n_threads_, [&](size_t first, size_t last, size_t) {
            std::memcpy(&a_[first], &b_[first], (last - first) * sizeof(float));
        });
    }

    void triad() {
        in_slices(n_, n_threads_, [&](size_t first, size_t last, size_t) {
            float * a = a_.get();
            const float * b = b_.get();
            const float * c = c_.get();
            for (size_t i = first; i < last; ++i) {
                a[i] = b[i] + scale * c[i];
            }
        });
    }

    template <typename Expected> bool holds(const char * op, Expected && expected) const {
        for (size_t i = 0; i < n_; ++i) {
            if (a_[i] != expected(i)) {
                std::fprintf(stderr, "%s: element %zu is %g, must be %g\n", op, i, a_[i], expected(i));
                return false;
            }
        }
        return true;
    }

private:
    size_t n_, n_threads_;
    std::unique_ptr<float[]> a_, b_, c_;
};

} // namespace memory
