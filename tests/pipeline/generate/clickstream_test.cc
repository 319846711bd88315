#include "pipeline/clickstream.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/seed.h"

namespace freshet {
namespace {

std::vector<Click> Clicks(const Catalogue& catalogue, uint32_t users, uint64_t events, uint64_t seed,
                          const ClickPeriod& period = {}) {
  Clickstream stream(catalogue, users, events, seed, period);
  std::vector<Click> clicks;
  for (uint64_t i = 0; i < events; ++i) clicks.push_back(stream.Next());
  return clicks;
}

TEST(SplitMix, IsTheReferenceSequence) {
  SplitMix random(1234567);  // the published test vector of splitmix64
  EXPECT_EQ(random.Next(), 6457827717110365317ull);
  EXPECT_EQ(random.Next(), 3203168211198807973ull);
  EXPECT_EQ(random.Next(), 9817491932198370423ull);
}

TEST(SplitMix, DrawsStayBelowTheirBound) {
  SplitMix random(TestSeed());
  for (const uint64_t bound : {1ull, 2ull, 3ull, 1000ull, 4294967295ull}) {
    for (int i = 0; i < 1000; ++i) {
      EXPECT_LT(random.Below(bound), bound);
      EXPECT_LT(random.Skewed(bound), bound);
      EXPECT_LT(random.MoreSkewed(bound), bound);
    }
  }
}

TEST(Catalogue, CategoriesHoldEveryItemOnce) {
  for (const uint32_t items : {1u, 11u, 12u, 13u, 95u, 96u, 200u, 2000u, 10'007u}) {
    const Catalogue catalogue(items);
    EXPECT_EQ(catalogue.FirstItem(0), 0u);
    EXPECT_EQ(catalogue.FirstItem(catalogue.categories()), items);
    for (uint32_t category = 0; category < catalogue.categories(); ++category) {
      ASSERT_LT(catalogue.FirstItem(category), catalogue.FirstItem(category + 1));
      for (uint32_t item = catalogue.FirstItem(category); item < catalogue.FirstItem(category + 1); ++item) {
        ASSERT_EQ(catalogue.CategoryOf(item), category) << item << " of " << items;
      }
    }
  }
}

TEST(Catalogue, ItemsAreRecordsWithTitlesOfTheirOwn) {
  const Catalogue catalogue(13'000);  // more series than pairs of words
  std::set<std::string> titles;
  std::string text;
  for (uint32_t item = 0; item < catalogue.items(); ++item) {
    text.clear();
    catalogue.AppendJson(item, text);
    ASSERT_EQ(text.back(), '\n');
    const auto record = nlohmann::json::parse(text);
    ASSERT_EQ(record.at("item_id"), "i" + std::to_string(item + 1));
    ASSERT_TRUE(titles.insert(record.at("title")).second) << text;
    ASSERT_FALSE(record.at("category").get<std::string>().empty());
    ASSERT_EQ(record.at("tags").size(), 2u);
    ASSERT_GE(record.at("price").get<double>(), 1.99);
    ASSERT_LT(record.at("price").get<double>(), 60);
    ASSERT_TRUE(record.at("available").is_boolean());
  }
}

TEST(Clickstream, IsAFunctionOfItsSeed) {
  const Catalogue catalogue(500);
  const auto fingerprint = [&](uint64_t seed) {
    uint64_t hash = 0;
    for (const Click& click : Clicks(catalogue, 100, 5000, seed)) {
      hash = SplitMix::Mix(hash ^ click.user) ^ SplitMix::Mix(hash + click.item) ^ static_cast<uint64_t>(click.time_ms);
    }
    return hash;
  };
  EXPECT_EQ(fingerprint(1), fingerprint(1));
  EXPECT_NE(fingerprint(1), fingerprint(2));
}

TEST(Clickstream, TimeGoesForwardOverThePeriod) {
  const Catalogue catalogue(500);
  for (const ClickPeriod& period : {ClickPeriod(), ClickPeriod{.start_ms = 1'709'251'200'000, .days = 8},
                                    ClickPeriod{.start_ms = 0, .days = ClickPeriod::kMostDays}}) {
    for (const uint64_t events : {1000ull, 100'000ull}) {
      int64_t last = period.start_ms;
      for (const Click& click : Clicks(catalogue, 300, events, TestSeed(), period)) {
        ASSERT_GE(click.time_ms, last);
        ASSERT_LT(click.user, 300u);
        ASSERT_LT(click.item, 500u);
        last = click.time_ms;
      }
      const double days = static_cast<double>(last - period.start_ms) / (24 * 3600 * 1000);
      EXPECT_NEAR(days / static_cast<double>(period.days), 1, 0.1) << events;
    }
  }
}

TEST(Clickstream, AnotherStartMovesTheSameClicks) {
  const Catalogue catalogue(500);
  const int64_t later_ms = 1'709'251'200'000;
  const auto first = Clicks(catalogue, 300, 5000, TestSeed());
  const auto moved = Clicks(catalogue, 300, 5000, TestSeed(), {.start_ms = later_ms});
  for (size_t i = 0; i < first.size(); ++i) {
    ASSERT_EQ(moved[i].time_ms - later_ms, first[i].time_ms - ClickPeriod().start_ms);
    ASSERT_EQ(moved[i].item, first[i].item);
    ASSERT_EQ(moved[i].user, first[i].user);
  }
}

TEST(Clickstream, WorksForTheSmallestShops) {
  for (const uint32_t items : {1u, 5u, 12u, 25u}) {
    const Catalogue catalogue(items);
    for (const Click& click : Clicks(catalogue, 1, 2000, TestSeed())) {
      ASSERT_EQ(click.user, 0u);
      ASSERT_LT(click.item, items);
    }
  }
}

TEST(Clickstream, ASessionIsOneUsers) {
  const Catalogue catalogue(500);
  std::map<uint64_t, uint32_t> user_of;
  const auto clicks = Clicks(catalogue, 300, 50'000, TestSeed());
  for (const Click& click : clicks) {
    EXPECT_EQ(user_of.emplace(click.session, click.user).first->second, click.user);
  }
  const double length = static_cast<double>(clicks.size()) / static_cast<double>(user_of.size());
  EXPECT_NEAR(length, 1 / 0.12, 1);
}

// What a user's next click follows from: in the terms of docs/generate.md.
struct Shares {
  double successor = 0;      // the rule's successor of one of the user's last 20 clicks
  double after_last = 0;     // of the very last click
  double cart_to_extra = 0;  // of the carts with a part: its extra is among the user's next 20 clicks
  double view_to_extra = 0;  // the same of the views
};

uint32_t SuccessorOf(const Click& click, uint32_t series) {
  const uint32_t of_item = click.item / Catalogue::kSeriesItems;
  const uint32_t part = click.item % Catalogue::kSeriesItems;
  const uint32_t next_series = (of_item + 1) % series * Catalogue::kSeriesItems;
  if (click.type == ClickType::kPurchase) return next_series;
  if (part >= Catalogue::kParts) return click.item;  // depends on the part before; left out of the shares
  if (click.type == ClickType::kCart) return of_item * Catalogue::kSeriesItems + Catalogue::ExtraOf(part);
  return part + 1 < Catalogue::kParts ? click.item + 1 : next_series;
}

Shares Measure(const std::vector<Click>& clicks, uint32_t series) {
  std::map<uint32_t, std::vector<Click>> by_user;
  for (const Click& click : clicks) by_user[click.user].push_back(click);
  double pairs = 0, carts = 0, views = 0;
  Shares shares;
  for (const auto& [user, log] : by_user) {
    for (size_t i = 20; i + 20 < log.size(); ++i) {
      ++pairs;
      bool follows = false;
      for (size_t back = 1; back <= 20; ++back) {
        follows |= log[i - back].item != log[i].item && SuccessorOf(log[i - back], series) == log[i].item;
        if (back == 1) shares.after_last += follows;
      }
      shares.successor += follows;
      const uint32_t part = log[i].item % Catalogue::kSeriesItems;
      if (part >= Catalogue::kParts || log[i].type == ClickType::kPurchase) continue;
      bool extra = false;
      for (size_t ahead = 1; ahead <= 20; ++ahead) {
        extra |= log[i + ahead].item == log[i].item - part + Catalogue::ExtraOf(part);
      }
      (log[i].type == ClickType::kCart ? carts : views) += 1;
      (log[i].type == ClickType::kCart ? shares.cart_to_extra : shares.view_to_extra) += extra;
    }
  }
  return {shares.successor / pairs, shares.after_last / pairs, shares.cart_to_extra / carts,
          shares.view_to_extra / views};
}

TEST(Clickstream, TheNextClickMostlyFollowsFromAnEarlierOneAndSeldomFromTheLast) {
  const Catalogue catalogue(2000);
  const Shares shares = Measure(Clicks(catalogue, 2000, 150'000, TestSeed()), catalogue.series());
  EXPECT_GT(shares.successor, 0.5);
  EXPECT_LT(shares.successor, 0.75);
  EXPECT_GT(shares.after_last, 0.08);
  EXPECT_LT(shares.after_last, 0.25);
  EXPECT_GT(shares.cart_to_extra, 2 * shares.view_to_extra);
}

}  // namespace
}  // namespace freshet
