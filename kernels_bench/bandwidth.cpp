// Memory bandwidth of the CPU: the ceiling under which decoding a language model lives, since each token reads every
// weight once. Plain loops over 256 MiB arrays, split over threads; read, copy and triad (a = b + s * c).
//
//   bandwidth [--threads N] [--repetitions N]    check, then time
//   bandwidth --check                            check only
//
// Excluded: allocation and first touch. Included: starting the threads, below 0.1 ms.

#include "bench.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>

namespace {

constexpr float scale = 3.0F;

// Arrays that nobody has touched yet: each thread's pages come to lie near it.
struct Arrays {
    explicit Arrays(size_t n) : n(n), a(new float[n]), b(new float[n]), c(new float[n]), words(new uint64_t[n / 2]) {}

    size_t n;
    std::unique_ptr<float[]> a, b, c;
    std::unique_ptr<uint64_t[]> words; // as many bytes as each of the others
};

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
float b_at(size_t i) { return static_cast<float>(i % 1000); }
float c_at(size_t i) { return static_cast<float>(i % 7); }
uint64_t word_at(size_t i) { return i * 0x9E3779B97F4A7C15U; }

void fill(Arrays & arrays, size_t n_threads) {
    in_slices(arrays.n, n_threads, [&](size_t first, size_t last, size_t) {
        for (size_t i = first; i < last; ++i) {
            arrays.a[i] = -1;
            arrays.b[i] = b_at(i);
            arrays.c[i] = c_at(i);
        }
    });
    in_slices(arrays.n / 2, n_threads, [&](size_t first, size_t last, size_t) {
        for (size_t i = first; i < last; ++i) {
            arrays.words[i] = word_at(i);
        }
    });
}

uint64_t read(const Arrays & arrays, size_t n_threads) {
    std::vector<uint64_t> sums(n_threads);
    in_slices(arrays.n / 2, n_threads, [&](size_t first, size_t last, size_t t) {
        uint64_t sum = 0;
        for (size_t i = first; i < last; ++i) {
            sum += arrays.words[i];
        }
        sums[t] = sum;
    });
    uint64_t sum = 0;
    for (const uint64_t part : sums) {
        sum += part;
    }
    return sum;
}

void copy(Arrays & arrays, size_t n_threads) {
    in_slices(arrays.n, n_threads, [&](size_t first, size_t last, size_t) {
        std::memcpy(&arrays.a[first], &arrays.b[first], (last - first) * sizeof(float));
    });
}

void triad(Arrays & arrays, size_t n_threads) {
    in_slices(arrays.n, n_threads, [&](size_t first, size_t last, size_t) {
        float * a = arrays.a.get();
        const float * b = arrays.b.get();
        const float * c = arrays.c.get();
        for (size_t i = first; i < last; ++i) {
            a[i] = b[i] + scale * c[i];
        }
    });
}

template <typename Expected> bool holds(const char * op, const Arrays & arrays, Expected && expected) {
    for (size_t i = 0; i < arrays.n; ++i) {
        if (arrays.a[i] != expected(i)) {
            std::fprintf(stderr, "%s: element %zu is %g, must be %g\n", op, i, arrays.a[i], expected(i));
            return false;
        }
    }
    return true;
}

uint64_t expected_sum(size_t n_words) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n_words; ++i) {
        sum += word_at(i);
    }
    return sum;
}

bool check(Arrays & arrays, size_t n_threads) {
    if (read(arrays, n_threads) != expected_sum(arrays.n / 2)) {
        std::fprintf(stderr, "read: wrong sum\n");
        return false;
    }
    copy(arrays, n_threads);
    if (!holds("copy", arrays, b_at)) {
        return false;
    }
    triad(arrays, n_threads);
    return holds("triad", arrays, [](size_t i) { return b_at(i) + scale * c_at(i); });
}

} // namespace

int main(int argc, char ** argv) {
    const bool check_only = bench::flag(argc, argv, "--check");
    const size_t n_threads =
        bench::count_option(argc, argv, "--threads", std::max(1U, std::thread::hardware_concurrency()));
    const size_t n_repetitions = bench::count_option(argc, argv, "--repetitions", 20);

    Arrays arrays(check_only ? 100'003 : bench::cold_bytes / sizeof(float)); // 100003: slices of unequal length
    fill(arrays, n_threads);
    if (!check(arrays, n_threads)) {
        return 1;
    }
    if (check_only) {
        std::puts("read, copy and triad equal the scalar reference");
        return 0;
    }

    const size_t n_bytes = arrays.n * sizeof(float);
    const uint64_t right = expected_sum(arrays.n / 2);
    bool sums_right = true; // looked at, so that no compiler may drop the reading
    bench::Report report("bandwidth", "CPU", n_threads);
    report.row("read", n_bytes,
               bench::measure(2, n_repetitions, [&] { sums_right &= read(arrays, n_threads) == right; }));
    report.row("copy", 2 * n_bytes, bench::measure(2, n_repetitions, [&] { copy(arrays, n_threads); }));
    report.row("triad", 3 * n_bytes, bench::measure(2, n_repetitions, [&] { triad(arrays, n_threads); }));
    report.finish();
    return sums_right ? 0 : 1;
}
