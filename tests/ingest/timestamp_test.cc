#include "ingest/timestamp.h"

#include <gtest/gtest.h>

#include <ctime>
#include <limits>
#include <random>

#include "tests/support/seed.h"

namespace freshet {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

TEST(ParseEpochMs, Units) {
  EXPECT_EQ(ParseEpochMs("1506826800026", TimeUnit::kMilliseconds), 1506826800026);
  EXPECT_EQ(ParseEpochMs("1506826800", TimeUnit::kSeconds), 1506826800000);
  EXPECT_EQ(ParseEpochMs("1506826800026999", TimeUnit::kMicroseconds), 1506826800026);
  EXPECT_EQ(ParseEpochMs("0", TimeUnit::kMilliseconds), 0);
}

TEST(ParseEpochMs, FractionsAreExactAndCutOff) {
  for (int64_t ms = 0; ms < 1000; ++ms) {
    char text[32];
    std::snprintf(text, sizeof(text), "1506826800.%03d", static_cast<int>(ms));
    EXPECT_EQ(ParseEpochMs(text, TimeUnit::kSeconds), 1506826800000 + ms) << text;
  }
  EXPECT_EQ(ParseEpochMs("1.5", TimeUnit::kSeconds), 1500);
  EXPECT_EQ(ParseEpochMs("1.9999999", TimeUnit::kSeconds), 1999);
  EXPECT_EQ(ParseEpochMs("12.9", TimeUnit::kMilliseconds), 12);
  EXPECT_EQ(ParseEpochMs("1.5068268e9", TimeUnit::kSeconds), 1506826800000);
  EXPECT_EQ(ParseEpochMs("1.506826800026E12", TimeUnit::kMilliseconds), 1506826800026);
}

TEST(ParseEpochMs, BeyondTheRange) {
  EXPECT_EQ(ParseEpochMs("-1", TimeUnit::kMilliseconds), -1);
  EXPECT_EQ(ParseEpochMs("-0.1", TimeUnit::kSeconds), -1);
  EXPECT_EQ(ParseEpochMs("-0", TimeUnit::kMilliseconds), 0);
  EXPECT_EQ(ParseEpochMs("99999999999999999999", TimeUnit::kSeconds), kMost);
  EXPECT_EQ(ParseEpochMs("1e300", TimeUnit::kSeconds), kMost);
  EXPECT_EQ(ParseEpochMs("-1e300", TimeUnit::kSeconds), -1);
  EXPECT_EQ(ParseEpochMs("1e999999999999", TimeUnit::kMicroseconds), kMost);
  EXPECT_EQ(ParseEpochMs("0.1e-999999999999", TimeUnit::kSeconds), 0);
}

TEST(ParseEpochMs, WhatIsNoNumber) {
  for (const char* const text :
       {"", "-", "+1", "1.", ".5", "1e", "1e5x", "0x10", "1 ", " 1", "nan", "inf", "1,2x", "12a"}) {
    EXPECT_EQ(ParseEpochMs(text, TimeUnit::kMilliseconds), std::nullopt) << text;
  }
}

TEST(ParseIso8601Ms, Forms) {
  for (const char* const text :
       {"2017-10-01T03:00:00.026Z", "2017-10-01 03:00:00.026", "2017-10-01T03:00:00.0269Z",
        "2017-10-01T05:00:00.026+02:00", "2017-10-01T05:00:00.026+0200", "2017-10-01T05:00:00.026+02",
        "2017-09-30T22:30:00,026-04:30", "2017-10-01t03:00:00.026z"}) {
    EXPECT_EQ(ParseIso8601Ms(text), 1506826800026) << text;
  }
  EXPECT_EQ(ParseIso8601Ms("2017-10-01T03:00Z"), 1506826800000);
  EXPECT_EQ(ParseIso8601Ms("2017-10-01"), 1506816000000);
  EXPECT_EQ(ParseIso8601Ms("1970-01-01"), 0);
  EXPECT_EQ(ParseIso8601Ms("1969-12-31T23:59:59Z"), -1000);
  EXPECT_EQ(ParseIso8601Ms("2016-12-31T23:59:60Z"), 1483228800000);
  EXPECT_EQ(ParseIso8601Ms("2000-02-29"), 951782400000);
}

TEST(ParseIso8601Ms, WhatIsNoTime) {
  for (const char* const text : {"",
                                 "2017",
                                 "2017-10",
                                 "2017-13-01",
                                 "2017-02-29",
                                 "2017-10-00",
                                 "17-10-01",
                                 "2017-10-01T",
                                 "2017-10-01T03",
                                 "2017-10-01T24:00:00Z",
                                 "2017-10-01T03:60",
                                 "2017-10-01T03:00:61Z",
                                 "2017-10-01T03:00:00.Z",
                                 "2017-10-01T03:00:00+",
                                 "2017-10-01T03:00:00+2",
                                 "2017-10-01T03:00:00+02:",
                                 "2017-10-01T03:00:00ZZ",
                                 "2017-10-01T03:00:00 Z",
                                 "2017-10-01Z",
                                 "1506826800026"}) {
    EXPECT_EQ(ParseIso8601Ms(text), std::nullopt) << text;
  }
}

TEST(ParseIso8601Ms, AgreesWithTheCLibrary) {
  std::mt19937_64 random(TestSeed());
  for (int i = 0; i < 2000; ++i) {
    const time_t seconds = static_cast<time_t>(random() % 4'102'444'800);
    tm parts{};
    gmtime_r(&seconds, &parts);
    char text[32];
    std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    ASSERT_EQ(ParseIso8601Ms(text), int64_t{seconds} * 1000) << text;
  }
}

TEST(FormatTime, IsInUtc) {
  EXPECT_EQ(FormatTime(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(FormatTime(1'507'593'600'007), "2017-10-10T00:00:00.007Z");
  EXPECT_EQ(FormatTime(-1), "1969-12-31T23:59:59.999Z");
  EXPECT_EQ(ParseIso8601Ms(FormatTime(1'507'593'600'007)), 1'507'593'600'007);
}

}  // namespace
}  // namespace freshet
