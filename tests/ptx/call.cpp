// For tests/test_ptx.py, by way of ctypes: runs one kernel in the executor.
#include <exception>
#include <string>

#include "entry.h"

/// What went wrong, or nothing.
extern "C" const char* ptx_call(const char* symbol, const void* params, size_t param_bytes,
                                uint32_t threads, size_t shared_bytes) {
  static std::string error;
  error.clear();
  try {
    ptx::run({"snippet", dim3(1), threads, shared_bytes}, symbol, params, param_bytes);
  } catch (const std::exception& thrown) {
    error = thrown.what();
  }
  return error.c_str();
}
