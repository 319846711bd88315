#include "pipeline/live_queries.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "tests/pipeline/live_answers.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

// The answers that came, in order.
struct Answers {
  std::vector<LiveAnswer> all;
  std::function<void(LiveAnswer)> Taker() {
    return [this](LiveAnswer answer) { all.push_back(std::move(answer)); };
  }
};

LiveAnswer Named(const LiveQuery& query) { return LiveAnswer(query.user_id + "!"); }
const LiveQueries::Answerer Here = Each(Named);
const LiveQueries::Answerer NotHere = Each([](const LiveQuery&) { return LiveAnswer(std::nullopt); });
const LiveQueries::Answerer Broken = Each([](const LiveQuery&) { return Error(ErrorCode::kUnavailable, "broken"); });

TEST(LiveQueries, FirstWorkerThatHoldsTheUserAnswers) {
  LiveQueries queries(3);
  Answers answers;
  ASSERT_TRUE(queries.Ask({"u1", 5}, answers.Taker()));
  queries.Answer(2, NotHere);
  EXPECT_TRUE(answers.all.empty());
  queries.Answer(0, Each([](const LiveQuery& query) {
                   EXPECT_EQ(query.k, 5);
                   return Named(query);
                 }));
  ASSERT_EQ(answers.all.size(), 1u);
  EXPECT_EQ(*answers.all[0], "u1!");
  queries.Answer(1, Each([](const LiveQuery& query) {
                   ADD_FAILURE() << "asked although settled";
                   return Named(query);
                 }));
  EXPECT_EQ(answers.all.size(), 1u);
}

TEST(LiveQueries, UnknownUserIsNothingOnceAllHaveAnswered) {
  LiveQueries queries(2);
  Answers answers;
  ASSERT_TRUE(queries.Ask({"u1", 1}, answers.Taker()));
  queries.Answer(0, NotHere);
  EXPECT_TRUE(answers.all.empty());
  queries.Answer(1, NotHere);
  ASSERT_EQ(answers.all.size(), 1u);
  ASSERT_TRUE(answers.all[0].ok());
  EXPECT_FALSE(answers.all[0].value().has_value());
}

TEST(LiveQueries, AnErrorIsHeardOnlyWhereNobodyHoldsTheUser) {
  LiveQueries queries(2);
  Answers answers;
  ASSERT_TRUE(queries.Ask({"held", 1}, answers.Taker()));
  queries.Answer(0, Broken);
  queries.Answer(1, Here);
  ASSERT_EQ(answers.all.size(), 1u);
  EXPECT_TRUE(answers.all[0].ok());

  ASSERT_TRUE(queries.Ask({"not held", 1}, answers.Taker()));
  queries.Answer(0, Broken);
  queries.Answer(1, NotHere);
  ASSERT_EQ(answers.all.size(), 2u);
  ASSERT_FALSE(answers.all[1].ok());
  EXPECT_EQ(answers.all[1].error().message(), "broken");
}

TEST(LiveQueries, AnswersFewPerBatch) {
  LiveQueries queries(1);
  Answers answers;
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(queries.Ask({"u", 1}, answers.Taker()));
  queries.Answer(0, Here);
  EXPECT_EQ(answers.all.size(), size_t{LiveQueries::kAnswersPerBatch});
  queries.Answer(0, Here);
  queries.Answer(0, Here);
  EXPECT_EQ(answers.all.size(), 40u);
}

TEST(LiveQueries, FullMailboxRefusesAndRecovers) {
  LiveQueries queries(2);
  Answers answers;
  for (size_t i = 0; i < LiveQueries::kMailboxSize; ++i) ASSERT_TRUE(queries.Ask({"u", 1}, answers.Taker()));
  EXPECT_FALSE(queries.Ask({"late", 1}, answers.Taker()));
  queries.Answer(0, Here);
  EXPECT_FALSE(queries.Ask({"late", 1}, answers.Taker())) << "worker 1 still has a full mailbox";
  queries.Answer(1, Here);
  EXPECT_TRUE(queries.Ask({"in time", 1}, answers.Taker()));
  for (int i = 0; i < 40; ++i) queries.Answer(0, Here);
  EXPECT_EQ(answers.all.size(), LiveQueries::kMailboxSize + 1);
}

TEST(LiveQueries, SettledQuestionsMakeRoomWithoutBeingAsked) {
  LiveQueries queries(2);
  Answers answers;
  for (size_t i = 0; i < LiveQueries::kMailboxSize; ++i) ASSERT_TRUE(queries.Ask({"u", 1}, answers.Taker()));
  for (int i = 0; i < 16; ++i) queries.Answer(0, Here);
  EXPECT_EQ(answers.all.size(), LiveQueries::kMailboxSize);
  queries.Answer(1, Each([](const LiveQuery& query) {
                   ADD_FAILURE() << "asked although settled";
                   return Named(query);
                 }));
  EXPECT_TRUE(queries.Ask({"u", 1}, answers.Taker()));
}

TEST(LiveQueries, CloseAnswersWhatWaitsAndWhateverComes) {
  LiveQueries queries(2);
  Answers answers;
  ASSERT_TRUE(queries.Ask({"u", 1}, answers.Taker()));
  queries.Close(0);
  EXPECT_TRUE(answers.all.empty()) << "worker 1 may hold the user";
  queries.Close(1);
  ASSERT_EQ(answers.all.size(), 1u);
  EXPECT_FALSE(answers.all[0].value().has_value());
  ASSERT_TRUE(queries.Ask({"v", 1}, answers.Taker()));
  ASSERT_EQ(answers.all.size(), 2u);
  EXPECT_FALSE(answers.all[1].value().has_value());
}

TEST(LiveQueries, WithoutWorkersNobodyHoldsAUser) {
  LiveQueries queries(0);
  Answers answers;
  ASSERT_TRUE(queries.Ask({"u", 1}, answers.Taker()));
  ASSERT_EQ(answers.all.size(), 1u);
  EXPECT_FALSE(answers.all[0].value().has_value());
}

// Askers and workers at full tilt, a worker closing on the way: every accepted question is settled exactly once, and
// with the user's answer where the worker that holds it answered.
TEST(LiveQueries, LosesNothingUnderThreads) {
  constexpr int kWorkers = 3;
  constexpr int kAskers = 4;
  constexpr int kQuestions = 3000;
  LiveQueries queries(kWorkers);
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  for (int worker = 0; worker < kWorkers; ++worker) {
    workers.emplace_back([&, worker] {
      while (!stop) {
        queries.Answer(worker, Each([&](const LiveQuery& query) {
                         return query.user_id.front() == '0' + worker ? Named(query) : LiveAnswer(std::nullopt);
                       }));
      }
      queries.Close(worker);
    });
  }
  std::vector<std::atomic<int>> settled(kAskers * kQuestions);
  std::atomic<int> wrong{0};
  std::vector<std::thread> askers;
  for (int asker = 0; asker < kAskers; ++asker) {
    askers.emplace_back([&, asker] {
      std::mt19937_64 random(TestSeed() + static_cast<uint64_t>(asker));
      for (int i = 0; i < kQuestions; ++i) {
        const int owner = static_cast<int>(random() % (kWorkers + 1));  // kWorkers: nobody
        const std::string user = std::to_string(owner) + "-" + std::to_string(i);
        const auto done = [&, owner, user, index = static_cast<size_t>(asker * kQuestions + i)](LiveAnswer answer) {
          ++settled[index];
          const bool found = answer.ok() && answer.value().has_value();
          if (found != (owner < kWorkers) || (found && **answer != user + "!")) ++wrong;
        };
        while (!queries.Ask({user, 1}, done)) std::this_thread::yield();
      }
    });
  }
  for (auto& asker : askers) asker.join();
  const auto waits = [&] { return std::any_of(settled.begin(), settled.end(), [](const auto& n) { return n == 0; }); };
  for (int i = 0; i < 10'000 && waits(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  stop = true;
  for (auto& worker : workers) worker.join();
  for (const auto& count : settled) ASSERT_EQ(count, 1);
  EXPECT_EQ(wrong, 0);
}

TEST(LiveQueries, StoppingWorkersLeaveNoQuestionOpen) {
  for (int round = 0; round < 50; ++round) {
    LiveQueries queries(2);
    std::atomic<int> settled{0};
    std::vector<std::thread> workers;
    for (int worker = 0; worker < 2; ++worker) {
      workers.emplace_back([&, worker] {
        for (int i = 0; i < round; ++i) queries.Answer(worker, NotHere);
        queries.Close(worker);
      });
    }
    int accepted = 0;
    for (int i = 0; i < 300; ++i) accepted += queries.Ask({"u", 1}, [&](const LiveAnswer&) { ++settled; });
    for (auto& worker : workers) worker.join();
    EXPECT_EQ(settled, accepted);
  }
}

}  // namespace
}  // namespace freshet
