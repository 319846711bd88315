#include "pipeline/clickstream.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace freshet {
namespace {

constexpr uint64_t kDayUs = uint64_t{24} * 3600 * 1'000'000;
constexpr std::array<std::string_view, 24> kCategories = {
    "mystery", "cookery",  "travel",   "history", "gardening", "astronomy", "chess",  "sailing",
    "poetry",  "cycling",  "painting", "biology", "jazz",      "theatre",   "hiking", "carpentry",
    "opera",   "climbing", "fishing",  "geology", "pottery",   "knitting",  "film",   "photography"};
constexpr std::array<std::string_view, 32> kAdjectives = {
    "Quiet",   "Amber",  "Northern", "Hidden", "Silver", "Crimson", "Distant", "Gentle", "Hollow", "Ivory", "Lonely",
    "Misty",   "Narrow", "Olive",    "Pale",   "Rapid",  "Sacred",  "Tender",  "Upper",  "Velvet", "Wild",  "Young",
    "Ancient", "Bright", "Cobalt",   "Dusty",  "Early",  "Frozen",  "Golden",  "Humble", "Iron",   "Jade"};
constexpr std::array<std::string_view, 32> kNouns = {
    "Harbour", "Lantern", "Orchard", "River",  "Garden", "Bridge", "Mountain", "Window",  "Meadow", "Island", "Forest",
    "Mirror",  "Valley",  "Compass", "Tower",  "Shore",  "Market", "Canyon",   "Letter",  "Winter", "Summer", "Voyage",
    "Secret",  "Library", "Station", "Castle", "Desert", "Temple", "Engine",   "Feather", "Anchor", "Village"};

// "Quiet Harbour", and with more than 1,024 series "Quiet Harbour 2".
std::string SeriesName(uint32_t series) {
  const uint32_t pair = series % 1024;
  const uint32_t shuffled = (pair * 389 + 7) % 1024;  // 389 is odd: every pair comes once
  std::string name(kAdjectives[shuffled / 32]);
  name.append(" ").append(kNouns[shuffled % 32]);
  if (series >= 1024) name += " " + std::to_string(series / 1024 + 1);
  return name;
}

std::string CategoryName(uint32_t category) {
  std::string name(kCategories[category % kCategories.size()]);
  if (category >= kCategories.size()) name += " " + std::to_string(category / kCategories.size() + 1);
  return name;
}

void AppendNumber(uint64_t number, std::string& out) {
  std::array<char, 20> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  out.append(digits.data(), end);
}

}  // namespace

uint64_t SplitMix::Mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15ull;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ull;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBull;
  return value ^ (value >> 31);
}

uint64_t SplitMix::Next() {
  const uint64_t result = Mix(state_);
  state_ += 0x9E3779B97F4A7C15ull;
  return result;
}

uint32_t SplitMix::Skewed(uint64_t n) {
  const uint64_t x = Next() >> 32;
  return static_cast<uint32_t>((x * x >> 32) * n >> 32);
}

uint32_t SplitMix::MoreSkewed(uint64_t n) {
  const uint64_t x = Next() >> 32;
  return static_cast<uint32_t>(((x * x >> 32) * x >> 32) * n >> 32);
}

Catalogue::Catalogue(uint32_t items) : items_(items), categories_(std::clamp(items / kSeriesItems / 8, 1u, 64u)) {}

uint32_t Catalogue::CategoryOf(uint32_t item) const {
  const uint32_t of_item = item / kSeriesItems;
  if (of_item >= series()) return categories_ - 1;
  uint32_t category = static_cast<uint32_t>(uint64_t{of_item} * categories_ / series());
  while (FirstSeries(category + 1) <= of_item) ++category;
  return category;
}

void Catalogue::AppendJson(uint32_t item, std::string& out) const {
  const uint32_t of_item = item / kSeriesItems;
  const uint32_t part = item % kSeriesItems;
  const uint64_t draw = SplitMix::Mix(item);
  std::string title, kind;
  if (of_item >= series()) {
    title = "Miscellany " + std::to_string(part + 1);
    kind = "single";
  } else {
    kind = part < kParts ? "part" : "extra";
    title = SeriesName(of_item) + ", " + kind + " " + std::to_string((part < kParts ? part : part - kParts) + 1);
  }
  const uint64_t cents = 199 + draw % 5800;
  out.append("{\"item_id\":\"i").append(std::to_string(item + 1));
  out.append("\",\"title\":\"").append(title);
  out.append("\",\"category\":\"").append(CategoryName(CategoryOf(item)));
  out.append("\",\"tags\":[\"").append(kind).append("\",\"series ").append(std::to_string(of_item + 1));
  out.append("\"],\"price\":").append(std::to_string(cents / 100)).append(cents % 100 < 10 ? ".0" : ".");
  out.append(std::to_string(cents % 100));
  out.append(",\"available\":").append((draw >> 32) % 50 == 0 ? "false" : "true").append("}\n");
}

Clickstream::Clickstream(const Catalogue& catalogue, uint32_t users, uint64_t events, uint64_t seed,
                         const ClickPeriod& period)
    : catalogue_(catalogue),
      seed_(SplitMix::Mix(seed)),
      random_(seed_),
      interests_(users),
      mean_gap_us_(std::max<uint64_t>(period.days * kDayUs / events, 1)),
      start_ms_(period.start_ms) {
  constexpr uint64_t kGapInSessionUs = 45'000'000;
  constexpr uint64_t kMostSessions = 100'000;
  sessions_.resize(std::clamp<uint64_t>(kGapInSessionUs / mean_gap_us_, 1, std::min<uint64_t>(users, kMostSessions)));
}

Click Clickstream::Next() {
  time_us_ += (random_.Next() >> 44) * (2 * mean_gap_us_) >> 20;  // below 2^20 * 2^44, whatever the number of events
  Session& session = sessions_[random_.Below(sessions_.size())];
  const uint32_t users = static_cast<uint32_t>(interests_.size());
  if (session.number == 0)
    session = {random_.Chance(50) ? random_.Below(users) : random_.Skewed(users), ++session_count_};

  Click click;
  click.user = session.user;
  click.session = session.number;
  click.time_ms = start_ms_ + static_cast<int64_t>(time_us_ / 1000);
  const uint32_t kind = random_.Below(100);
  if (kind < 78 && catalogue_.series() > 0) {
    click.item = SeriesItem(session.user, click.type);
  } else if (kind < 93) {  // something popular in a category that the user likes
    const uint32_t category = CategoryOf(session.user, random_.Below(kInterests));
    const uint32_t first = catalogue_.FirstItem(category);
    const uint32_t size = catalogue_.FirstItem(category + 1) - first;
    const uint64_t rank = random_.MoreSkewed(size);
    click.item = first + static_cast<uint32_t>(SplitMix::Mix(rank ^ (uint64_t{category} << 32)) % size);
  } else {
    click.item = random_.Below(catalogue_.items());
  }
  if (random_.Chance(12)) session.number = 0;
  return click;
}

uint32_t Clickstream::CategoryOf(uint32_t user, uint32_t interest) const {
  SplitMix draw(seed_ ^ SplitMix::Mix(uint64_t{user} * kInterests + interest));
  return draw.Skewed(catalogue_.categories());
}

// The next item of one of the user's series, and what the user does with it, which decides how the series goes on.
uint32_t Clickstream::SeriesItem(uint32_t user, ClickType& type) {
  const uint32_t which = random_.Below(kInterests);
  const uint32_t category = CategoryOf(user, which);
  Interest& interest = interests_[user][which];
  if (interest.next == kNotBegun) BeginSeries(interest, category);
  const uint32_t item = interest.series * Catalogue::kSeriesItems + interest.next;
  const uint32_t draw = random_.Below(100);
  type = draw < 50 ? ClickType::kView : draw < 80 ? ClickType::kCart : ClickType::kPurchase;
  Advance(interest, category, type);
  return item;
}

// After a view comes the next part; after a part in the cart its extra, then the next part; after a purchase, or the
// last part, mostly the first part of the next series in the category.
void Clickstream::Advance(Interest& interest, uint32_t category, ClickType type) {
  const bool extra = interest.next >= Catalogue::kParts;
  const uint8_t next_part = extra ? interest.resume : static_cast<uint8_t>(interest.next + 1);
  if (type == ClickType::kCart && !extra) {
    interest.resume = next_part;
    interest.next = static_cast<uint8_t>(Catalogue::ExtraOf(interest.next));
    return;
  }
  if (type != ClickType::kPurchase && next_part < Catalogue::kParts) {
    interest.next = next_part;
    return;
  }
  if (random_.Chance(20)) return BeginSeries(interest, category);
  const uint32_t first = catalogue_.FirstSeries(category);
  const uint32_t count = catalogue_.FirstSeries(category + 1) - first;
  interest.series = first + (interest.series - first + 1) % count;
  interest.next = 0;
}

void Clickstream::BeginSeries(Interest& interest, uint32_t category) {
  const uint32_t first = catalogue_.FirstSeries(category);
  interest.series = first + random_.Skewed(catalogue_.FirstSeries(category + 1) - first);
  interest.next = static_cast<uint8_t>(random_.Below(4));
}

void AppendJson(uint64_t number, const Click& click, std::string& out) {
  out.append("{\"event_id\":\"e");
  AppendNumber(number, out);
  out.append("\",\"user_id\":\"u");
  AppendNumber(uint64_t{click.user} + 1, out);
  out.append("\",\"item_id\":\"i");
  AppendNumber(uint64_t{click.item} + 1, out);
  out.append("\",\"event_type\":\"").append(kClickTypeNames[static_cast<size_t>(click.type)]);
  out.append("\",\"timestamp\":");
  AppendNumber(static_cast<uint64_t>(click.time_ms), out);
  out.append(",\"properties\":{\"session\":\"s");
  AppendNumber(click.session, out);
  out.append("\"}}\n");
}

}  // namespace freshet
