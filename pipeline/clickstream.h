// A synthetic shop: its catalogue, and the clicks of its users, with structure that a sequence model can learn and that
// neither popularity nor the last click alone tells. docs/generate.md describes it.
//
// Pure and deterministic: the same numbers and seed give the same clicks on every platform (integers only, own random
// numbers). Threads: one owner each.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace freshet {

// splitmix64 (Steele, Lea, Flood 2014).
class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed) {}
  // A step of the generator as a hash.
  static uint64_t Mix(uint64_t value);

  uint64_t Next();
  // Uniform in [0, n). REQUIRES: 0 < n < 2^32.
  uint32_t Below(uint64_t n) { return static_cast<uint32_t>((Next() >> 32) * n >> 32); }
  // True with probability percent / 100.
  bool Chance(uint32_t percent) { return Below(100) < percent; }
  // In [0, n), small numbers more often: density ~ 1/sqrt(x), or ~ x^(-2/3). REQUIRES: 0 < n < 2^32.
  uint32_t Skewed(uint64_t n);
  uint32_t MoreSkewed(uint64_t n);

 private:
  uint64_t state_;
};

// Items are numbered from 0. kSeriesItems of them make a series: kParts parts in order, then an extra for every two
// parts. Series fill the categories in order; what is left over behind the last series belongs to the last category.
class Catalogue {
 public:
  static constexpr uint32_t kParts = 8;
  static constexpr uint32_t kExtras = kParts / 2;
  static constexpr uint32_t kSeriesItems = kParts + kExtras;
  static uint32_t ExtraOf(uint32_t part) { return kParts + part / 2; }

  explicit Catalogue(uint32_t items);

  uint32_t items() const { return items_; }
  uint32_t series() const { return items_ / kSeriesItems; }
  uint32_t categories() const { return categories_; }
  // The first series of `category`; that of categories() is series().
  uint32_t FirstSeries(uint32_t category) const {
    return static_cast<uint32_t>(uint64_t{series()} * category / categories_);
  }
  // The first item of `category`; that of categories() is items().
  uint32_t FirstItem(uint32_t category) const {
    return category == categories_ ? items_ : FirstSeries(category) * kSeriesItems;
  }
  uint32_t CategoryOf(uint32_t item) const;

  // The item in the form of an item record, with a line end, appended to `out`.
  void AppendJson(uint32_t item, std::string& out) const;

 private:
  uint32_t items_;
  uint32_t categories_;
};

enum class ClickType : uint8_t { kView, kCart, kPurchase };
inline constexpr std::array<std::string_view, 3> kClickTypeNames = {"view", "cart", "purchase"};

struct Click {
  uint32_t user = 0;
  uint32_t item = 0;
  ClickType type = ClickType::kView;
  uint64_t session = 0;
  int64_t time_ms = 0;  // never earlier than the click before
};

// The click in the form of an event, with a line end, appended to `out`: user u1 and item i1 are the first ones, and
// the event's id is e<number>.
void AppendJson(uint64_t number, const Click& click, std::string& out);

// When the clicks happen.
struct ClickPeriod {
  static constexpr uint64_t kMostDays = 100;  // the arithmetic on gaps in time stays within 64 bits

  int64_t start_ms = 1'704'067'200'000;  // since 1970: 2024-01-01T00:00:00Z
  uint64_t days = 60;
};

// The clicks of all users, in time order, over the days of a period whatever their number. Memory: 32 bytes a user.
class Clickstream {
 public:
  // `catalogue` outlives it. Another start moves the same clicks. REQUIRES: users, events > 0; 0 < days <= kMostDays.
  Clickstream(const Catalogue& catalogue, uint32_t users, uint64_t events, uint64_t seed,
              const ClickPeriod& period = {});

  Click Next();

 private:
  static constexpr uint32_t kInterests = 4;
  static constexpr uint8_t kNotBegun = 255;
  // A series that a user is going through.
  struct Interest {
    uint32_t series = 0;
    uint8_t next = kNotBegun;  // what follows: a part or an extra
    uint8_t resume = 0;        // the part after the extra
  };
  struct Session {
    uint32_t user = 0;
    uint64_t number = 0;  // 0: over
  };

  uint32_t CategoryOf(uint32_t user, uint32_t interest) const;
  uint32_t SeriesItem(uint32_t user, ClickType& type);
  void Advance(Interest& interest, uint32_t category, ClickType type);
  void BeginSeries(Interest& interest, uint32_t category);

  const Catalogue& catalogue_;
  const uint64_t seed_;
  SplitMix random_;
  std::vector<std::array<Interest, kInterests>> interests_;  // by user
  std::vector<Session> sessions_;                            // open at the same time
  uint64_t session_count_ = 0;
  uint64_t mean_gap_us_;
  const int64_t start_ms_;
  uint64_t time_us_ = 0;  // since start_ms_
};

}  // namespace freshet
