#include "pipeline/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace freshet {
namespace {

using nlohmann::json;
using spdlog::level::level_enum;
using std::chrono::seconds;
using testing::ElementsAre;

class LoggingTest : public testing::Test {
 protected:
  // At this many seconds from now.
  void Log(int at_s, level_enum level, const std::string& text) {
    logger_->log(now_ + seconds(at_s), spdlog::source_loc{}, level, text);
  }
  void Warn(int at_s, const std::string& text) { Log(at_s, spdlog::level::warn, text); }

  // What was written since the last call; each line must be a whole object.
  std::vector<std::string> Lines() {
    std::vector<std::string> messages;
    std::istringstream lines(out_.str());
    for (std::string line; std::getline(lines, line);) {
      const json parsed = json::parse(line);  // throws where it is none, or not UTF-8
      EXPECT_EQ(parsed.size(), 3U) << line;
      EXPECT_TRUE(parsed.contains("time")) << line;
      messages.push_back(parsed.at("level").get<std::string>() + " " + parsed.at("message").get<std::string>());
    }
    out_.str("");
    return messages;
  }

  const spdlog::log_clock::time_point now_ = spdlog::log_clock::now();
  std::ostringstream out_;
  std::shared_ptr<spdlog::logger> logger_ = MakeLogger("json", std::make_shared<spdlog::sinks::ostream_sink_mt>(out_));
};

TEST_F(LoggingTest, RepeatsAreHeldBackAndCounted) {
  for (int n = 0; n < 100; ++n)
    Warn(1, "t[" + std::to_string(n) + "]: commit refused for \"u" + std::to_string(n) + "\"");
  EXPECT_EQ(Lines().size(), 20U);
  Warn(60, "t[100]: commit refused for \"é\"");
  EXPECT_THAT(Lines(), ElementsAre()) << "the minute is not over";
  Log(61, spdlog::level::info, "on we go");
  EXPECT_THAT(Lines(),
              ElementsAre("warning held back 81 more of this kind within 60 s; the last: t[100]: commit refused "
                          "for \"é\"",
                          "info on we go"));
  Warn(61, "t[7]: commit refused for \"x\"");
  EXPECT_THAT(Lines(), ElementsAre("warning t[7]: commit refused for \"x\"")) << "a new minute";
}

TEST_F(LoggingTest, OtherKindsAndLevelsPass) {
  for (int n = 0; n < 50; ++n) {
    Warn(0, "one thing " + std::to_string(n));
    Log(0, spdlog::level::info, "told");
    Log(0, spdlog::level::critical, "the end");
  }
  EXPECT_EQ(Lines().size(), 20U + 50 + 50);
  Warn(0, "another thing 1");
  Log(0, spdlog::level::err, "one thing 1");
  EXPECT_THAT(Lines(), ElementsAre("warning another thing 1", "error one thing 1"));
}

TEST_F(LoggingTest, WhatIsHeldBackIsToldWithAFlushOrAtTheEnd) {
  for (int n = 0; n < 21; ++n) Warn(-70, "old");
  for (int n = 0; n < 25; ++n) Warn(0, "new");
  Lines();
  logger_->flush();
  EXPECT_THAT(Lines(), ElementsAre()) << "that of the old came with the first of the new";
  logger_.reset();
  EXPECT_THAT(Lines(), ElementsAre("warning held back 5 more of this kind within 60 s; the last: new"));
}

TEST_F(LoggingTest, AFlushTellsWhenTheMinuteIsOver) {
  for (int n = 0; n < 21; ++n) Warn(-61, "old");
  EXPECT_EQ(Lines().size(), 20U);
  logger_->flush();
  EXPECT_THAT(Lines(), ElementsAre("warning held back 1 more of this kind within 60 s; the last: old"));
}

TEST_F(LoggingTest, AClockThatIsSetBackEndsTheMinute) {
  for (int n = 0; n < 21; ++n) Warn(1000, "text");
  Lines();
  Warn(0, "text");
  EXPECT_THAT(Lines(),
              ElementsAre("warning held back 1 more of this kind within 60 s; the last: text", "warning text"));
}

TEST_F(LoggingTest, MoreKindsThanAreRememberedPass) {
  const auto kind = [](int n) {
    return std::string(static_cast<size_t>(n) % 26 + 1, 'a') + std::string(static_cast<size_t>(n) / 26, 'b');
  };
  for (int round = 0; round < 30; ++round) {
    for (int n = 0; n < 300; ++n) Warn(0, kind(n));
  }
  EXPECT_EQ(Lines().size(), 256U * 20 + 44 * 30);
}

TEST_F(LoggingTest, AnythingBecomesValidJson) {
  for (const std::string text : {"\"\\\b\f\n\r\t\x01\x7f", "é 漢 😀 \xe2\x80\xa8", "{\"level\":\"x\"}", ""}) {
    Log(0, spdlog::level::info, text);
    EXPECT_THAT(Lines(), ElementsAre("info " + text));
  }
  Log(0, spdlog::level::info, "a\xff\xc3(\xed\xa0\x80z");
  EXPECT_THAT(Lines(), ElementsAre(testing::HasSubstr("\xef\xbf\xbd")));
  Log(0, spdlog::level::info, std::string("a\0b", 3));
  EXPECT_THAT(Lines(), ElementsAre(std::string("info a\0b", 8)));
}

TEST(Logging, TextIsALineEach) {
  std::ostringstream out;
  MakeLogger("text", std::make_shared<spdlog::sinks::ostream_sink_mt>(out))->warn("x");
  EXPECT_THAT(out.str(), testing::ContainsRegex("^20.*T.*\\.[0-9]+ warning x\n$"));
}

}  // namespace
}  // namespace freshet
