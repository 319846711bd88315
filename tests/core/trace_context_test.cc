#include "core/trace_context.h"

#include <gtest/gtest.h>

#include <string>

namespace freshet {
namespace {

const std::string kGood = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

bool Passes(const std::string& traceparent) {
  const TraceContext trace = ValidTraceContext(traceparent, "");
  EXPECT_TRUE(trace.traceparent.empty() || trace.traceparent == traceparent) << "passed on unchanged";
  return !trace.traceparent.empty();
}

TEST(TraceContext, PassesWhatTheStandardAllows) {
  EXPECT_TRUE(Passes(kGood));
  EXPECT_TRUE(Passes(kGood.substr(0, 53) + "00"));
  EXPECT_TRUE(Passes("01" + kGood.substr(2))) << "a later version";
  EXPECT_TRUE(Passes("cc" + kGood.substr(2) + "-what-the-future-will-be-like"));
}

TEST(TraceContext, DropsWhatItForbids) {
  const auto with = [](size_t place, const std::string& text) {
    return std::string(kGood).replace(place, text.size(), text);
  };
  for (const std::string& bad : {
           std::string(),
           std::string("00"),
           kGood.substr(1),
           kGood + "0",
           kGood + "-00",
           kGood + " ",
           " " + kGood,
           with(0, "ff"),
           with(0, "0g"),
           with(3, std::string(32, '0')),
           with(36, std::string(16, '0')),
           with(3, "4BF9"),
           with(36, "00F0"),
           with(53, "0x"),
           with(2, "_"),
           with(35, "_"),
           with(52, "_"),
           "01" + kGood.substr(2) + "00",
           "01" + kGood.substr(2) + "-\n",
           "01" + kGood.substr(2) + "-" + std::string(1000, 'a'),
           std::string(55, '-'),
           std::string(55, '\0'),
       }) {
    EXPECT_FALSE(Passes(bad)) << bad;
  }
}

TEST(TraceContext, TheStateGoesAlongWithAValidParent) {
  const std::string state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
  EXPECT_EQ(ValidTraceContext(kGood, state), (TraceContext{kGood, state}));
  EXPECT_EQ(ValidTraceContext("", state), TraceContext());
  EXPECT_EQ(ValidTraceContext(kGood + "0", state), TraceContext());
  const std::string longest(512, 'a');
  EXPECT_EQ(ValidTraceContext(kGood, longest).tracestate, longest);
  for (const std::string& bad : {longest + "a", std::string("a=\n"), std::string("a=\xc3\xa9"), std::string("\0", 1)}) {
    EXPECT_EQ(ValidTraceContext(kGood, bad), (TraceContext{kGood, ""})) << bad;
  }
  const std::string parent = "01" + kGood.substr(2) + "-" + std::string(256 - 56, 'a');
  ASSERT_TRUE(Passes(parent));
  EXPECT_LT(kTraceParent.size() + parent.size() + kTraceState.size() + longest.size() + 8, kMaxTraceBytes);
}

}  // namespace
}  // namespace freshet
