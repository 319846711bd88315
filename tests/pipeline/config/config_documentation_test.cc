// Holds docs/configuration.md against the table of settings: the same keys in the same order with the same defaults,
// and examples that load.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "pipeline/config_schema.h"
#include "tests/support/temporary_directory.h"

namespace freshet {
namespace {

std::string Documentation() {
  std::ifstream file(FRESHET_SOURCE_DIR "/docs/configuration.md");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Documented {
  std::string key, default_value, expected, description;
};

// The rows "| `key` | `default` | what it may be | what it is |".
std::vector<Documented> DocumentedSettings() {
  std::vector<Documented> settings;
  std::istringstream lines(Documentation());
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `")) continue;
    std::vector<std::string> cells;
    std::istringstream row(line.substr(2));
    for (std::string cell; std::getline(row, cell, '|');) {
      cell.erase(0, cell.find_first_not_of(" "));
      cell.erase(cell.find_last_not_of(" ") + 1);
      cells.push_back(cell);
    }
    if (cells.size() != 4) {
      ADD_FAILURE() << "a row of four cells expected: " << line;
      continue;
    }
    const auto bare = [](const std::string& cell) { return cell.substr(1, cell.size() - 2); };
    settings.push_back({bare(cells[0]), bare(cells[1]), cells[2], cells[3]});
  }
  return settings;
}

TEST(ConfigDocumentation, EveryKeyIsThereWithItsDefaultAndBounds) {
  const auto documented = DocumentedSettings();
  const auto schema = ConfigSchema();
  std::string expected, found;
  for (const Setting& setting : schema) {
    expected += "| `" + std::string(setting.path) + "` | `" + PrintSetting(setting, Config()) + "` | " +
                setting.expected + " | " + std::string(setting.description) + " |\n";
  }
  for (const Documented& row : documented) {
    found += "| `" + row.key + "` | `" + row.default_value + "` | " + row.expected + " | " + row.description + " |\n";
  }
  EXPECT_EQ(found, expected) << "docs/configuration.md must hold these rows:\n" << expected;
}

TEST(ConfigDocumentation, ItsYamlExamplesLoad) {
  const TemporaryDirectory directory;
  const std::string text = Documentation();
  int examples = 0;
  for (size_t at = text.find("```yaml\n"); at != std::string::npos; at = text.find("```yaml\n", at + 1)) {
    const size_t begin = at + 8;
    ConfigInput input;
    input.file = (directory.path() / "example.yaml").string();
    std::ofstream(*input.file) << text.substr(begin, text.find("```", begin) - begin);
    EXPECT_THAT(LoadConfig(input).problems.lines, testing::IsEmpty()) << text.substr(begin, 200);
    ++examples;
  }
  EXPECT_GE(examples, 2);
}

TEST(ConfigDocumentation, KnownKeysAreThoseOfTheTable) {
  std::vector<std::string> keys;
  for (const Documented& row : DocumentedSettings()) keys.push_back(row.key);
  EXPECT_EQ(KnownConfigKeys(), keys);
}

}  // namespace
}  // namespace freshet
