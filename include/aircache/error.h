// One way to refuse: an exception whose message names the argument, what it was and what is needed.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace aircache {

/// Thrown for every argument an op cannot accept; nothing has been written when it is thrown.
class Error : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// Throws an Error made of `parts` unless `condition` holds:
///   check(seq >= window, "window is ", window, " but seq is only ", seq);
template <class... Parts>
void check(bool condition, const Parts&... parts) {
  if (condition) [[likely]] {
    return;
  }
  std::ostringstream message;
  (message << ... << parts);
  throw Error(message.str());
}

}  // namespace aircache
