#include "pipeline/model_reloader.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "inference/model_files.h"
#include "pipeline/setup.h"
#include "tests/inference/model_files.h"
#include "tests/support/temporary_directory.h"

namespace freshet {
namespace {

namespace fs = std::filesystem;

constexpr int kItems = 30;

void WriteModel(const fs::path& directory, uint64_t seed, int window = 5) {
  ModelConfig config;
  config.items = kItems;
  config.event_types = 2;
  config.dim = 16;
  config.layers = 2;
  config.heads = 2;
  config.window = window;
  config.temperature = 0.05;
  const Status written = WriteModelDirectory(*RandomModel(config, seed), directory);
  ASSERT_TRUE(written.ok()) << written.error().message();
}

class ModelReloaderTest : public testing::Test {
 protected:
  void SetUp() override {
    WriteModel(models_ / "monday", 1);
    WriteModel(models_ / "tuesday", 2);
    PointTo("monday");
  }

  // As ln -sfn and mv -T: the link is there at all times.
  void PointTo(const std::string& name) {
    fs::create_directory_symlink(name, models_ / "next");
    fs::rename(models_ / "next", link_);
  }

  // With the first model, and a worker that holds it.
  void Start() {
    const fs::path behind = ModelDirectoryBehind(link_);
    auto loaded = ServingModel::Load(behind);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    current_ = std::make_unique<CurrentModel>(std::make_shared<const ServingModel>(std::move(loaded).value()));
    worker_ = current_->Newer(nullptr);
    metrics_ = Metrics::Make("1", {worker_->model->name, worker_->model->version});
    ModelReloaderOptions options;
    options.directory = link_;
    options.loaded_from = behind;
    options.asked = [this] {
      ++looks_;
      return asked_.exchange(false);
    };
    options.suits = [](const ServingModel& serving) -> Status {
      if (serving.model->config.window <= 5) return {};
      return Error(ErrorCode::kInvalidArgument, "too wide");
    };
    options.look_for_request = options.look_at_directory = std::chrono::milliseconds(1);
    reloader_ = std::make_unique<ModelReloader>(std::move(options), *current_, *metrics_);
  }

  // Takes up what comes, as a worker does.
  void TakeUp() {
    if (auto newer = current_->Newer(worker_.get())) worker_ = std::move(newer);
  }
  void AwaitSwaps(int swaps) {
    while (Value("freshet_model_swaps_total") < swaps) TakeUp();
  }
  void AwaitRefusals(int refusals) {
    while (Value("freshet_model_refusals_total") < refusals) std::this_thread::yield();
  }
  // Until the reloader has looked at request and link anew, some times.
  void LetItLook() {
    for (const int before = looks_; looks_ < before + 5;) std::this_thread::yield();
  }

  double Value(const std::string& series) const {
    const std::string text = metrics_->Render();
    const size_t at = text.find("\n" + series + " ");
    return at == text.npos ? -1 : std::stod(text.substr(at + series.size() + 2));
  }
  std::string Served() const { return metrics_->Model().name; }

  TemporaryDirectory temporary_;
  const fs::path models_ = temporary_.path();
  const fs::path link_ = models_ / "current";
  std::atomic<bool> asked_{false};
  std::atomic<int> looks_{0};
  std::shared_ptr<const ServingModel> worker_;
  std::unique_ptr<CurrentModel> current_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<ModelReloader> reloader_;
};

TEST_F(ModelReloaderTest, ALinkThatLeadsElsewhereIsFollowed) {
  Start();
  EXPECT_EQ(Served(), "monday");
  EXPECT_EQ(Value("freshet_model_last_swap_timestamp_seconds"), 0);
  constexpr std::chrono::sys_seconds kWritten(std::chrono::seconds(1'767'225'600));  // 2026-01-01
  fs::last_write_time(models_ / "tuesday" / kWeightsFile, std::chrono::file_clock::from_sys(kWritten));
  PointTo("tuesday");
  AwaitSwaps(1);
  EXPECT_EQ(Served(), "tuesday");
  EXPECT_EQ(worker_->model->name, "tuesday");
  EXPECT_EQ(Value("freshet_model_written_timestamp_seconds"), 1'767'225'600);
  EXPECT_GT(Value("freshet_model_last_swap_timestamp_seconds"), 1.7e9);
  PointTo("monday");
  AwaitSwaps(2);
  EXPECT_EQ(worker_->model->name, "monday");
  EXPECT_EQ(Value("freshet_model_refusals_total"), 0);
}

TEST_F(ModelReloaderTest, AModelMayHaveItsItemsAsCodes) {
  Start();
  const ModelConfig config = worker_->model->config;
  ASSERT_TRUE(WriteModelDirectory(*RandomModelWithCodes(config, 5, 4, 9), models_ / "wednesday").ok());
  PointTo("wednesday");
  AwaitSwaps(1);
  EXPECT_EQ(worker_->model->name, "wednesday");
  EXPECT_TRUE(worker_->model->item_codes);
  EXPECT_EQ(Value("freshet_model_refusals_total"), 0);
}

TEST_F(ModelReloaderTest, WhatChangedBeforeItBeganIsNoticed) {
  Start();
  reloader_.reset();
  PointTo("tuesday");
  ModelReloaderOptions options;
  options.directory = link_;
  options.loaded_from = ModelDirectoryBehind(models_ / "monday");
  options.asked = [] { return false; };
  options.suits = [](const ServingModel&) { return Status(); };
  options.look_for_request = std::chrono::milliseconds(1);
  options.look_at_directory = std::chrono::hours(1);
  reloader_ = std::make_unique<ModelReloader>(std::move(options), *current_, *metrics_);
  AwaitSwaps(1);
  EXPECT_EQ(Served(), "tuesday");
}

// A directory, link or not, whose content changed under its name is loaded when somebody asks.
TEST_F(ModelReloaderTest, SomebodyAsks) {
  Start();
  asked_ = true;
  LetItLook();
  EXPECT_EQ(Value("freshet_model_swaps_total"), 0) << "it is the same";
  const std::string before = metrics_->Model().version;
  WriteModel(models_ / "monday", 3);
  LetItLook();
  EXPECT_EQ(metrics_->Model().version, before) << "nobody has asked";
  asked_ = true;
  AwaitSwaps(1);
  EXPECT_EQ(Served(), "monday");
  EXPECT_NE(metrics_->Model().version, before);
}

TEST_F(ModelReloaderTest, ABadModelIsRefusedOnceAndTheOldOneGoesOn) {
  fs::create_directory(models_ / "empty");
  WriteModel(models_ / "cut", 4);
  fs::resize_file(models_ / "cut" / "model.safetensors", 5000);
  WriteModel(models_ / "wide", 5, 6);
  std::ofstream(models_ / "a-file").flush();
  Start();
  int refusals = 0;
  for (const char* bad : {"empty", "cut", "wide", "a-file", "missing"}) {
    PointTo(bad);
    AwaitRefusals(++refusals);
    LetItLook();
    EXPECT_EQ(Value("freshet_model_refusals_total"), refusals) << bad << " is tried once";
    EXPECT_EQ(Served(), "monday");
    EXPECT_EQ(current_->Newer(worker_.get()), nullptr);
  }
  asked_ = true;
  AwaitRefusals(++refusals);
  WriteModel(models_ / "parts", 6);
  fs::rename(models_ / "parts", models_ / "missing");  // the link leads somewhere by now
  AwaitSwaps(1);
  EXPECT_EQ(Served(), "missing");
}

TEST_F(ModelReloaderTest, AThirdModelWaitsForTheWorkersToLetGoOfTheFirst) {
  Start();
  PointTo("tuesday");
  while (current_->Newer(worker_.get()) == nullptr) std::this_thread::yield();
  PointTo("monday");
  asked_ = true;
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(current_->Newer(worker_.get())->model->name, "tuesday");
  EXPECT_EQ(Served(), "monday") << "until every worker has the next one";
  AwaitSwaps(2);
  EXPECT_EQ(worker_->model->name, "monday");
}

TEST_F(ModelReloaderTest, EndsWhileAWorkerHoldsOn) {
  Start();
  PointTo("tuesday");
  while (current_->Newer(worker_.get()) == nullptr) std::this_thread::yield();
  reloader_.reset();
  EXPECT_EQ(Value("freshet_model_swaps_total"), 0);
}

TEST(Hangups, WaitUntilTheyAreTaken) {
  HoldHangups();
  EXPECT_FALSE(TakeHangup());
  ::raise(SIGHUP);
  ::raise(SIGHUP);
  EXPECT_TRUE(TakeHangup());
  EXPECT_FALSE(TakeHangup()) << "two at once are one";
}

}  // namespace
}  // namespace freshet
