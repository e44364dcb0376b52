// Repeated timing with warm-up, its statistics, and the report: a table while it is measured, one JSON line at the end.
// Knows nothing of what is measured.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace bench {

// Larger than the caches of common machines, so that every repetition starts with cold data.
constexpr size_t cold_bytes = size_t{256} << 20;

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

// When to stop: after n repetitions or after so many seconds, whichever comes first, but never before three.
struct Effort {
    size_t n_repetitions;
    double seconds;
};

// Runs the work once or more without and then with the clock. A run that does n_inner things counts as one of them.
template <typename Work> Samples measure(const Effort & effort, size_t n_inner, Work && work) {
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point start) {
        return std::chrono::duration<double>(Clock::now() - start).count();
    };
    const auto warm_up = Clock::now();
    do {
        work();
    } while (since(warm_up) < std::min(0.05, effort.seconds / 4));

    Samples samples;
    const auto first = Clock::now();
    while (samples.seconds.size() < effort.n_repetitions &&
           (samples.seconds.size() < 3 || since(first) < effort.seconds)) {
        const auto start = Clock::now();
        work();
        samples.seconds.push_back(since(start) / static_cast<double>(n_inner));
    }
    return samples;
}

inline std::string number(double value, int n_digits = 6) {
    char text[32];
    std::snprintf(text, sizeof text, "%.*g", n_digits, value);
    return std::isfinite(value) ? text : "null";
}

inline std::string quoted(const std::string & text) {
    std::string json = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            json += '\\';
        }
        json += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
    }
    return json + "\"";
}

// Names and values, in order; the values are JSON already.
using Fields = std::vector<std::pair<std::string, std::string>>;

inline std::string object(const Fields & fields) {
    std::string json;
    for (const auto & [name, value] : fields) {
        json += (json.empty() ? "" : ", ") + quoted(name) + ": " + value;
    }
    return "{" + json + "}";
}

// What one thing that was measured moves and computes, and the ceilings for it (0: none is known).
struct Work {
    double n_bytes = 0;
    double n_operations = 0; // an addition and a multiplication are two
    double bytes_per_s_ceiling = 0;
    double operations_per_s_ceiling = 0;
};

class Report {
public:
    // head: what holds for all rows. labels: the columns before the figures, with their widths.
    Report(const std::string & bench, Fields head, std::vector<std::pair<std::string, int>> labels)
        : labels_(std::move(labels)) {
        char host[256] = "";
        gethostname(host, sizeof host - 1);
        head_ = {{"bench", quoted(bench)}, {"host", quoted(host)}};
        head_.insert(head_.end(), head.begin(), head.end());
        for (const auto & [name, value] : head_) {
            std::printf("%-14s %s\n", name.c_str(), value.c_str());
        }
        for (const auto & [name, width] : labels_) {
            std::printf("%-*s ", width, name.c_str());
        }
        std::printf("%11s %10s %9s %7s %9s %7s\n", "median ms", "sd ms", "GB/s", "% read", "GFLOP/s", "% peak");
    }

    // values: one for each label.
    void row(const std::vector<std::string> & values, const Work & work, const Samples & samples, Fields more = {}) {
        Fields fields;
        for (size_t i = 0; i < labels_.size(); ++i) {
            std::printf("%-*s ", labels_[i].second, values[i].c_str());
            const bool is_number = !values[i].empty() && values[i].find_first_not_of("0123456789") == std::string::npos;
            fields.emplace_back(labels_[i].first, is_number ? values[i] : quoted(values[i]));
        }
        const double median = samples.median();
        const double bytes_per_s = work.n_bytes / median, operations_per_s = work.n_operations / median;
        const double of_bandwidth = 100 * bytes_per_s / work.bytes_per_s_ceiling;
        const double of_peak = 100 * operations_per_s / work.operations_per_s_ceiling;
        std::printf("%11.4f %10.4f %9s %7s %9s %7s\n", median * 1e3, samples.stddev() * 1e3,
                    shown(bytes_per_s / 1e9, 2).c_str(), shown(of_bandwidth, 1).c_str(),
                    shown(operations_per_s / 1e9, 1).c_str(), shown(of_peak, 1).c_str());
        std::fflush(stdout);
        std::string seconds;
        for (const double s : samples.seconds) {
            seconds += (seconds.empty() ? "" : ", ") + number(s);
        }
        fields.insert(fields.end(), more.begin(), more.end());
        fields.insert(fields.end(), {{"n_bytes", number(work.n_bytes, 15)},
                                     {"n_operations", number(work.n_operations, 15)},
                                     {"median_s", number(median)},
                                     {"min_s", number(samples.min())},
                                     {"stddev_s", number(samples.stddev())},
                                     {"gb_per_s", number(bytes_per_s / 1e9)},
                                     {"gflop_per_s", number(operations_per_s / 1e9)},
                                     {"percent_of_bandwidth", of_bandwidth > 0 ? number(of_bandwidth) : "null"},
                                     {"percent_of_peak", of_peak > 0 ? number(of_peak) : "null"},
                                     {"samples_s", "[" + seconds + "]"}});
        rows_ += (rows_.empty() ? "" : ", ") + object(fields);
    }

    // What could not be measured, with the reason: said, never left out in silence.
    void skipped(const std::string & what) {
        std::printf("%s\n", what.c_str());
        skipped_ += (skipped_.empty() ? "" : ", ") + quoted(what);
    }

    void finish() {
        head_.emplace_back("skipped", "[" + skipped_ + "]");
        head_.emplace_back("rows", "[" + rows_ + "]");
        std::printf("%s\n", object(head_).c_str());
    }

private:
    static std::string shown(double value, int n_digits) {
        char text[32];
        std::snprintf(text, sizeof text, "%.*f", n_digits, value);
        return std::isfinite(value) && value > 0 ? text : "-";
    }

    Fields head_;
    std::vector<std::pair<std::string, int>> labels_;
    std::string rows_, skipped_;
};

} // namespace bench
