// Errors as values on the data path. Exceptions of a dependency stop at its wrapper.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace freshet {

enum class ErrorCode {
  kInvalidArgument,  // wrong configuration or usage; exit code 2
  kUnavailable,      // a peer or a resource does not answer now; trying again may help
  kAborted,          // a transaction came to nothing; what belongs to it is to be done again from the last commit on
  kIo,               // the operating system or a store refused; trying again will not help
  kCorrupt,          // stored bytes are not what their format says
  kNeedsDecision,    // the data needs a person's decision, e.g. a gap in the input; exit code 3
  kCancelled,        // asked to stop
  kInternal,         // a dependency failed in a way that is a defect
};

// A failure and its one-line message, which names where, what, and what was expected.
class Error {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  bool retriable() const { return code_ == ErrorCode::kUnavailable; }

  // The same error with a prefix that says where it happened: "where: message".
  Error At(std::string_view where) const { return Error(code_, std::string(where) + ": " + message_); }

 private:
  ErrorCode code_;
  std::string message_;
};

// Success, or an Error.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)) {}  // NOLINT: an Error is a failed Status

  bool ok() const { return !error_.has_value(); }
  // REQUIRES: !ok().
  const Error& error() const {
    assert(error_);
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

// A value, or an Error.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}      // NOLINT: a value is a successful Result
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: an Error is a failed Result

  bool ok() const { return value_.has_value(); }
  // REQUIRES: !ok().
  const Error& error() const {
    assert(error_);
    return *error_;
  }
  // REQUIRES: ok().
  T& value() & {
    assert(value_);
    return *value_;
  }
  const T& value() const& {
    assert(value_);
    return *value_;
  }
  T value() && {  // by value: a loop over f().value() must not outlive what it walks
    assert(value_);
    return *std::move(value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  std::optional<Error> error_;
};

#define FRESHET_CONCAT_INNER(a, b) a##b
#define FRESHET_CONCAT(a, b) FRESHET_CONCAT_INNER(a, b)

// Leaves the function with the error of `expression`, a Status, if it has one.
#define RETURN_IF_ERROR(expression)                                                      \
  do {                                                                                   \
    if (::freshet::Status status_ = (expression); !status_.ok()) return status_.error(); \
  } while (false)

// `declaration = value of expression`, a Result; leaves the function with its error if it has one.
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_INNER(FRESHET_CONCAT(result_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_INNER(result, declaration, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) return result.error();                      \
  declaration = std::move(result).value()

}  // namespace freshet
