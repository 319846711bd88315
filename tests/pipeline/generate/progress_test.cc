#include "pipeline/progress.h"

#include <gtest/gtest.h>

namespace freshet {
namespace {

TEST(Progress, TimeLeftUsesTheUnitsThatMatter) {
  EXPECT_EQ(FormatTimeLeft(0.4), "0:00");
  EXPECT_EQ(FormatTimeLeft(5), "0:05");
  EXPECT_EQ(FormatTimeLeft(92), "1:32");
  EXPECT_EQ(FormatTimeLeft(7387), "2:03:07");
  EXPECT_EQ(FormatTimeLeft(3 * 86400 + 2 * 3600 + 5), "3 d 2 h");
}

TEST(Progress, ALineTellsWhatIsKnown) {
  ProgressReport report;
  report.what = "replay";
  report.unit = "events";
  report.done = 1'234'567;
  report.rate = 250'000.4;
  EXPECT_EQ(FormatProgress(report), "replay: 1,234,567 events, 250,000/s");
  report.share = 0.419;
  report.left_s = 92;
  EXPECT_EQ(FormatProgress(report), "replay: 1,234,567 events, 41%, 250,000/s, 1:32 left");
  report.part = "state";
  EXPECT_EQ(FormatProgress(report), "replay, state: 1,234,567 events, 41%, 250,000/s, 1:32 left");
  report.part.clear();
  report.share = 1;
  report.left_s = 0;
  EXPECT_EQ(FormatProgress(report), "replay: 1,234,567 events, 100%, 250,000/s, 0:00 left");
}

TEST(Progress, TheLastLineTellsTheWhole) {
  ProgressReport report;
  report.what = "generate";
  report.unit = "events";
  report.done = 200'000;
  report.seconds = 0.44;
  report.rate = 454'545.45;
  EXPECT_EQ(FormatDone(report), "generate: 200,000 events in 0.4 s, 454,545/s");
}

}  // namespace
}  // namespace freshet
