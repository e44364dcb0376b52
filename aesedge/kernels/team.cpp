#include "team.h"

#include <ggml-backend.h>

#include <dlfcn.h>

#include <thread>
#include <vector>

namespace kernels {
namespace {

// GNU's OpenMP and LLVM's both have this entry: fn(data) in a team of n threads. Called by address, since it must be the
// copy that ggml's CPU backend is linked with, whichever compiler builds this file.
using Parallel = void (*)(void (*fn)(void *), void * data, unsigned n_threads, unsigned flags);

Parallel find_parallel() {
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    void * const inside =
        cpu == nullptr ? nullptr
                       : ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_set_n_threads");
    Dl_info library;
    if (inside == nullptr || dladdr(inside, &library) == 0) {
        return nullptr;
    }
    void * const handle = dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == nullptr) {
        return nullptr;
    }
    // Looks in that library and in those that it is linked with. The handle stays open: the runtime must stay too.
    return reinterpret_cast<Parallel>(dlsym(handle, "GOMP_parallel"));
}

Parallel parallel() {
    static const Parallel found = find_parallel();
    return found;
}

} // namespace

void run_team(int n_threads, const std::function<void()> & work) {
    if (n_threads <= 1) {
        work();
    } else if (parallel() != nullptr) {
        parallel()([](void * data) { (*static_cast<const std::function<void()> *>(data))(); },
                   const_cast<void *>(static_cast<const void *>(&work)), static_cast<unsigned>(n_threads), 0);
    } else { // ggml without OpenMP starts its threads for every graph too
        std::vector<std::thread> threads;
        for (int i = 1; i < n_threads; ++i) {
            threads.emplace_back(work);
        }
        work();
        for (std::thread & thread : threads) {
            thread.join();
        }
    }
}

const char * team_kind() {
    return parallel() != nullptr ? "OpenMP of ggml" : "own threads";
}

} // namespace kernels
