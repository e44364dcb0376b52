// Threads: those of the OpenMP runtime that ggml's CPU backend computes with, so that there is one set of them.
#pragma once

#include <functional>

namespace kernels {

// Runs the work in up to n threads at once, this one included, and returns when all have ended.
void run_team(int n_threads, const std::function<void()> & work);

// "OpenMP of ggml", or "own threads" where ggml's CPU backend has none.
const char * team_kind();

} // namespace kernels
