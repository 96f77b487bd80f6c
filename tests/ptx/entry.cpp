#include "entry.h"

#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

namespace ptx {
namespace {

std::map<std::string, Entry, std::less<>>& entries() {
  static std::map<std::string, Entry, std::less<>> map;
  return map;
}

}  // namespace

Entry::Entry(const char* symbol, void (*function_)(Window), size_t param_bytes_,
             uint32_t max_threads_)
    : function(function_), param_bytes(param_bytes_), max_threads(max_threads_) {
  entries().emplace(symbol, *this);
}

void Window::refuse(uint64_t address, size_t size, simt::Where where) const {
  std::ostringstream text;
  text << (address % size != 0 ? "a misaligned access of " : "an access out of bounds of ") << size
       << " bytes at " << std::hex << "0x" << address << std::dec << " (" << where.file_name()
       << ":" << where.line() << ")";
  throw simt::Error(text.str());
}

void run(const simt::Launch& launch, const char* symbol, const void* params, size_t param_bytes) {
  const auto found = entries().find(std::string_view(symbol == nullptr ? "" : symbol));
  std::ostringstream refusal;
  if (found == entries().end()) {
    refusal << "no PTX has its symbol " << (symbol == nullptr ? "(unknown)" : symbol);
  } else if (found->second.param_bytes != param_bytes) {
    refusal << "its parameters are " << param_bytes << " bytes on the host, "
            << found->second.param_bytes << " on the device";
  } else if (launch.block > found->second.max_threads) {
    refusal << "a block has " << launch.block << " threads, but __launch_bounds__ promised "
            << found->second.max_threads << " at most";
  }
  if (!refusal.str().empty()) {
    throw std::runtime_error(std::string("launching ") + launch.kernel +
                             " failed: " + refusal.str());
  }
  struct Call {
    void (*function)(Window);
    Window params;
  } const call{found->second.function, {reinterpret_cast<uint64_t>(params), param_bytes, 0}};
  simt::run(
      launch,
      [](const void* argument) {
        const Call& thread = *static_cast<const Call*>(argument);
        thread.function(thread.params);
      },
      &call);
}

}  // namespace ptx
