// What every micro-benchmark needs: options, repeated timing with warm-up, its statistics, and one JSON line at the end.
// Knows nothing of what is measured.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace bench {

// Larger than the caches of common CPUs, so that every repetition starts with cold data.
constexpr size_t cold_bytes = size_t{256} << 20;

// "--name value" among the arguments, else the fallback.
inline std::string option(int argc, char ** argv, const std::string & name, const std::string & fallback) {
    for (int i = 1; i + 1 < argc; ++i) {
        if (argv[i] == name) {
            return argv[i + 1];
        }
    }
    return fallback;
}

// A whole number of at least 1; anything else ends the program.
inline size_t count_option(int argc, char ** argv, const std::string & name, size_t fallback) {
    const std::string text = option(argc, argv, name, std::to_string(fallback));
    char * end = nullptr;
    const long value = std::strtol(text.c_str(), &end, 10);
    if (*end != '\0' || value < 1) {
        std::fprintf(stderr, "%s takes a whole number of at least 1, not '%s'\n", name.c_str(), text.c_str());
        std::exit(2);
    }
    return static_cast<size_t>(value);
}

inline bool flag(int argc, char ** argv, const std::string & name) {
    return std::any_of(argv + 1, argv + argc, [&](const char * argument) { return argument == name; });
}

// Wall times of the repetitions, in the order in which they ran.
struct Samples {
    std::vector<double> seconds;

    double min() const { return *std::min_element(seconds.begin(), seconds.end()); }

    double median() const {
        std::vector<double> sorted = seconds;
        std::sort(sorted.begin(), sorted.end());
        const size_t half = sorted.size() / 2;
        return sorted.size() % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    }

    // Of the sample (n - 1); 0 for a single one.
    double stddev() const {
        double mean = 0, squares = 0;
        for (const double s : seconds) {
            mean += s / static_cast<double>(seconds.size());
        }
        for (const double s : seconds) {
            squares += (s - mean) * (s - mean);
        }
        return seconds.size() > 1 ? std::sqrt(squares / static_cast<double>(seconds.size() - 1)) : 0;
    }
};

// Runs the work n_warm_up times without and n_repetitions times with the clock.
template <typename Work> Samples measure(size_t n_warm_up, size_t n_repetitions, Work && work) {
    Samples samples;
    for (size_t i = 0; i < n_warm_up + n_repetitions; ++i) {
        const auto start = std::chrono::steady_clock::now();
        work();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        if (i >= n_warm_up) {
            samples.seconds.push_back(took.count());
        }
    }
    return samples;
}

// Rows of a table for the reader while they are measured; all of them as one JSON line at the end for programs.
class Report {
public:
    Report(std::string bench, std::string device, size_t n_threads)
        : head_("{\"bench\": \"" + bench + "\", \"device\": \"" + device + "\", \"n_threads\": " +
                std::to_string(n_threads) + ", \"rows\": [") {
        std::printf("%s on %s, %zu threads\n%-8s %10s %12s %12s %10s\n", bench.c_str(), device.c_str(), n_threads, "op",
                    "MiB moved", "median ms", "stddev ms", "GB/s");
    }

    // n_bytes: what one repetition reads and writes, counted as STREAM does (no write-allocate traffic).
    void row(const std::string & op, size_t n_bytes, const Samples & samples) {
        const double gb_per_s = static_cast<double>(n_bytes) / samples.median() / 1e9;
        std::printf("%-8s %10zu %12.3f %12.3f %10.2f\n", op.c_str(), n_bytes >> 20, samples.median() * 1e3,
                    samples.stddev() * 1e3, gb_per_s);
        std::string json = rows_.empty() ? "" : ", ";
        json += "{\"op\": \"" + op + "\", \"n_bytes\": " + std::to_string(n_bytes) +
                ", \"median_s\": " + number(samples.median()) + ", \"min_s\": " + number(samples.min()) +
                ", \"stddev_s\": " + number(samples.stddev()) + ", \"gb_per_s\": " + number(gb_per_s) +
                ", \"samples_s\": [";
        for (size_t i = 0; i < samples.seconds.size(); ++i) {
            json += (i ? ", " : "") + number(samples.seconds[i]);
        }
        rows_ += json + "]}";
    }

    void finish() const { std::printf("%s%s]}\n", head_.c_str(), rows_.c_str()); }

private:
    static std::string number(double value) {
        char text[32];
        std::snprintf(text, sizeof text, "%.6g", value);
        return text;
    }

    std::string head_, rows_;
};

} // namespace bench
