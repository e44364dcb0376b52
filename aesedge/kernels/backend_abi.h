// The interface between ggml and its backends, version 2: what the ggml of llama-cpp-python 0.3.36 expects. Its public
// headers name these types and leave them open. Functions that are never given are untyped.
#pragma once

#include <ggml-backend.h>

namespace abi {

constexpr int version = 2;
using Unused = void (*)();

struct RegistryFunctions {
    const char * (*get_name)(ggml_backend_reg_t);
    size_t (*get_device_count)(ggml_backend_reg_t);
    ggml_backend_dev_t (*get_device)(ggml_backend_reg_t, size_t);
    void * (*get_proc_address)(ggml_backend_reg_t, const char *);
};

struct DeviceFunctions {
    const char * (*get_name)(ggml_backend_dev_t);
    const char * (*get_description)(ggml_backend_dev_t);
    void (*get_memory)(ggml_backend_dev_t, size_t *, size_t *);
    enum ggml_backend_dev_type (*get_type)(ggml_backend_dev_t);
    void (*get_props)(ggml_backend_dev_t, ggml_backend_dev_props *);
    ggml_backend_t (*init_backend)(ggml_backend_dev_t, const char *);
    ggml_backend_buffer_type_t (*get_buffer_type)(ggml_backend_dev_t);
    Unused get_host_buffer_type;
    Unused buffer_from_host_ptr;
    bool (*supports_op)(ggml_backend_dev_t, const ggml_tensor *);
    bool (*supports_buft)(ggml_backend_dev_t, ggml_backend_buffer_type_t);
    Unused offload_op, event_new, event_free, event_synchronize;
};

struct BackendFunctions {
    const char * (*get_name)(ggml_backend_t);
    void (*free)(ggml_backend_t);
    Unused set_tensor_async, get_tensor_async, set_tensor_2d_async, get_tensor_2d_async, cpy_tensor_async, synchronize;
    Unused graph_plan_create, graph_plan_free, graph_plan_update, graph_plan_compute;
    enum ggml_status (*graph_compute)(ggml_backend_t, ggml_cgraph *);
    Unused event_record, event_wait, graph_optimize;
};

} // namespace abi

struct ggml_backend_reg {
    int api_version;
    abi::RegistryFunctions functions;
    void * context;
};

struct ggml_backend_device {
    abi::DeviceFunctions functions;
    ggml_backend_reg_t registry;
    void * context;
};

struct ggml_backend {
    ggml_guid_t guid;
    abi::BackendFunctions functions;
    ggml_backend_dev_t device;
    void * context;
};
