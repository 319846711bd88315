// The texts of a configuration's values: sizes, durations, whole numbers, names. Pure; parsing gives nothing where the
// text is not one.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace freshet {

// "512MiB": a whole number and one of B, KiB, MiB, GiB.
std::optional<uint64_t> ParseSize(std::string_view text);
// In the largest unit that shows it exactly.
std::string FormatSize(uint64_t bytes);

// "100ms": a whole number and one of ms, s, m, h.
std::optional<std::chrono::milliseconds> ParseDuration(std::string_view text);
std::string FormatDuration(std::chrono::milliseconds duration);

std::optional<int64_t> ParseWhole(std::string_view text);

// What Kafka takes as the name of a topic (and any file system as that of a file): 1 to 249 of A-Z a-z 0-9 . _ -, and
// neither "." nor "..".
bool IsTopicName(std::string_view text);

// "127.0.0.1:8080", "[::1]:8080", "localhost:0".
bool IsHostAndPort(std::string_view text);

// "kafka-1:9092, [::1]:9092": one or more hosts with ports from 1 behind commas. No protocol before a host:
// librdkafka leaves out a broker whose prefix is not security.protocol's, and otherwise the prefix says nothing.
bool IsBrokerList(std::string_view text);

// "/a/b~1c"; RFC 6901. The empty pointer (the whole record) is none of an event's fields, and so not accepted.
bool IsJsonPointer(std::string_view text);

// Whether a librdkafka property's value must not be shown: password, passphrase, secret, token, key, credential or jaas
// in its name, unless it names a file (….location, keytab) or an address (….url).
bool IsSecretProperty(std::string_view name);

// Levenshtein distance.
size_t EditDistance(std::string_view a, std::string_view b);

}  // namespace freshet
