#include "bench/floors.h"

#include <fcntl.h>
#include <simdjson.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>

#include "bench/replay_run.h"
#include "core/hash.h"
#include "core/key_value_cache.h"
#include "inference/matrix_product.h"

namespace freshet::bench {
namespace {

constexpr int kPasses = 5;
constexpr size_t kReadBytes = size_t{256} << 10;
constexpr size_t kStateBytes = 64;  // of an event in RocksDB's log: key, token, profile, and what frames them
constexpr size_t kWindowBytes = size_t{8} << 20;

template <typename T>
void Keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

// CPU seconds of the fastest pass.
template <typename Pass>
double Best(Pass pass) {
  double best = std::numeric_limits<double>::infinity();
  for (int n = 0; n < kPasses; ++n) {
    const double began = ThreadCpuSeconds();
    pass();
    best = std::min(best, ThreadCpuSeconds() - began);
  }
  return best;
}

double PerEvent(double seconds, const Sample& sample) { return seconds / static_cast<double>(sample.events()); }

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  int operator*() const { return number_; }

 private:
  int number_;
};

Error SystemError(const std::filesystem::path& path) {
  return Error(ErrorCode::kIo, path.string() + ": " + std::generic_category().message(errno));
}

size_t CountLines(const char* text, size_t size) {
  size_t lines = 0;
  for (const char *at = text, *const end = text + size;; ++lines, ++at) {
    at = static_cast<const char*>(std::memchr(at, '\n', static_cast<size_t>(end - at)));
    if (at == nullptr) return lines;
  }
}

}  // namespace

Result<double> PollFloor(const std::filesystem::path& log, int64_t events) {
  const Descriptor file(open(log.c_str(), O_RDONLY | O_CLOEXEC));
  if (*file < 0) return SystemError(log);
  std::vector<char> buffer(kReadBytes);
  const double seconds = Best([&] {
    lseek(*file, 0, SEEK_SET);
    size_t lines = 0;
    for (ssize_t count = 0; (count = read(*file, buffer.data(), buffer.size())) > 0;) {
      lines += CountLines(buffer.data(), static_cast<size_t>(count));
    }
    Keep(lines);
  });
  return seconds / static_cast<double>(events);
}

Result<double> DecodeFloor(const Sample& sample) {
  simdjson::ondemand::parser parser;
  size_t good = 0;
  const double seconds = Best([&] {
    good = 0;
    for (size_t begin = 0; begin < sample.text_bytes;) {
      const size_t end = sample.text.find('\n', begin);
      simdjson::ondemand::document document;
      std::string_view user, item, type;
      int64_t time = 0;
      const bool found =
          !parser.iterate(sample.text.data() + begin, end - begin, sample.text.size() - begin).get(document) &&
          !document["user_id"].get_string().get(user) && !document["item_id"].get_string().get(item) &&
          !document["event_type"].get_string().get(type) && !document["timestamp"].get_int64().get(time);
      good += found ? 1 : 0;
      Keep(user.size() + item.size() + type.size() + static_cast<size_t>(time));
      begin = end + 1;
    }
  });
  if (good != sample.events()) {
    return Error(ErrorCode::kInvalidArgument,
                 "the log: expected JSON Lines with user_id, item_id, event_type and "
                 "timestamp, in the form of the default mapping");
  }
  return PerEvent(seconds, sample);
}

double LoadFloor(const Sample& sample, size_t users) {
  struct alignas(64) Line {
    uint64_t words[8];
  };
  std::vector<Line> table(users);
  const double seconds = Best([&] {
    for (const std::string& id : sample.user_ids) {
      const uint64_t hash = StableHash(id);
      Line& line = table[hash % users];
      line.words[0] += hash;
    }
    Keep(table.data());
  });
  return PerEvent(seconds, sample);
}

double EncodeFloor(const Sample& sample, size_t items) {
  constexpr std::string_view kScore = "12.345678}";
  std::vector<char> out(sample.record_bytes * 256 + (size_t{64} << 10));
  size_t next = 0;
  const double seconds = Best([&] {
    for (size_t event = 0; event < sample.events(); ++event) {
      char* to = out.data() + event % 256 * sample.record_bytes;
      for (size_t n = 0; n < items; ++n) {
        const std::string& head = sample.item_heads[next = (next + 7919) % sample.item_heads.size()];
        std::memcpy(to, head.data(), head.size());
        std::memcpy(to += head.size(), kScore.data(), kScore.size());
        to += kScore.size();
      }
      Keep(to);
    }
  });
  return PerEvent(seconds, sample);
}

double PublishFloor(const Sample& sample) {
  const size_t records = std::max<size_t>(1, kWindowBytes / std::max<size_t>(1, sample.record_bytes));
  const std::vector<char> encoded(256 * sample.record_bytes, 'x');  // of one micro-batch
  std::vector<char> pending(records * sample.record_bytes);
  const double seconds = Best([&] {
    for (size_t event = 0; event < sample.events(); ++event) {
      std::memcpy(pending.data() + event % records * sample.record_bytes,
                  encoded.data() + event % 256 * sample.record_bytes, sample.record_bytes);
      Keep(pending.data());
    }
  });
  return PerEvent(seconds, sample);
}

Result<double> CommitFloor(const Sample& sample, const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "commit-floor";
  const Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (*file < 0) return SystemError(path);
  const std::vector<char> bytes(kReadBytes, 'x');
  const size_t total = sample.events() * (sample.record_bytes + kStateBytes);
  bool whole = true;
  const auto pass = [&] {
    for (size_t done = 0; done < total; done += bytes.size()) {
      if (done % kWindowBytes == 0) lseek(*file, 0, SEEK_SET);
      const size_t count = std::min(bytes.size(), total - done);
      whole = whole && write(*file, bytes.data(), count) == static_cast<ssize_t>(count);
    }
  };
  pass();
  const double seconds = Best(pass);
  std::filesystem::remove(path);
  if (!whole) return SystemError(path);
  return PerEvent(seconds, sample);
}

Result<double> PeakFlops() {
  constexpr size_t kRows = 256, kInner = 256, kColumns = 960, kRuns = 20;
  ASSIGN_OR_RETURN(const auto product, MatrixProduct::Make({.inner = kInner, .columns = kColumns, .max_rows = kRows}));
  const auto context = product->MakeContext();
  const AlignedFloats x = AllocateAligned(kRows * kInner), weights = AllocateAligned(kInner * kColumns),
                      y = AllocateAligned(kRows * kColumns);
  const double seconds = Best([&] {
    for (size_t n = 0; n < kRuns; ++n) product->Run(kRows, x.get(), weights.get(), nullptr, y.get(), *context);
  });
  return 2.0 * kRows * kInner * kColumns * kRuns / seconds;
}

double AttentionFlop(const ModelConfig& config, double slots) {
  const double d = config.dim;
  double projections = 2 * d * 4 * d + 2 * d * d;  // u, v, q, k; out
  if (config.block == Block::kTransformer) projections = 2 * d * 3 * d + 2 * d * d + 2 * d * 3 * config.ffn_dim;
  return config.layers * (projections + 4 * slots * d);  // and query · key, weight · value for each slot
}

double RankFlop(const ModelConfig& config) { return 2.0 * config.items * config.dim; }

}  // namespace freshet::bench
