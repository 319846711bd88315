// freshet-show: a few users' last clicks beside what `freshet replay` recommended after them, with titles.
// Shows the users whose recommendations come last in the file; reads only its end, and all of the events.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <deque>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using Json = nlohmann::json;

constexpr std::streamoff kTailBytes = 4 << 20;
constexpr size_t kColumn = 40;  // characters

struct Flags {
  std::string items;
  std::string events;
  std::string recommendations;
  size_t users = 3;
  size_t rows = 8;
};

struct User {
  std::string id;
  Json recommendation;
  std::deque<std::string> clicks;  // item ids, oldest first
};

// The whole lines in the last kTailBytes of the file.
std::vector<std::string> LastLines(const std::string& path) {
  std::ifstream file(path, std::ios::ate);
  const std::streamoff size = file.tellg();
  file.seekg(std::max<std::streamoff>(size - kTailBytes, 0));
  std::vector<std::string> lines;
  std::string line;
  if (size > kTailBytes) std::getline(file, line);
  while (std::getline(file, line)) lines.push_back(line);
  return lines;
}

std::vector<User> LastUsers(const Flags& flags) {
  const std::vector<std::string> lines = LastLines(flags.recommendations);
  std::vector<User> users;
  for (auto line = lines.rbegin(); line != lines.rend() && users.size() < flags.users; ++line) {
    Json record = Json::parse(*line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object() || record.value("items", Json::array()).empty()) continue;
    const std::string id = record.value("user_id", "");
    const bool has_history = record.value("sequence_number", size_t{0}) >= flags.rows;
    const bool is_new = std::none_of(users.begin(), users.end(), [&](const User& user) { return user.id == id; });
    if (has_history && is_new) users.push_back({id, std::move(record), {}});
  }
  return users;
}

void AddClicks(const Flags& flags, std::vector<User>& users) {
  std::ifstream file(flags.events);
  for (std::string line; std::getline(file, line);) {
    for (User& user : users) {
      if (line.find(user.id) == std::string::npos) continue;  // parsing every line would take seconds
      const Json event = Json::parse(line, nullptr, false);
      if (!event.is_object() || event.value("user_id", "") != user.id) continue;
      user.clicks.push_back(event.value("item_id", ""));
      if (user.clicks.size() > flags.rows) user.clicks.pop_front();
    }
  }
}

// `title (category)` by item id.
std::unordered_map<std::string, std::string> Titles(const std::string& path) {
  std::unordered_map<std::string, std::string> titles;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const Json item = Json::parse(line, nullptr, false);
    if (!item.is_object()) continue;
    const std::string id = item.value("item_id", "");
    titles[id] = item.value("title", id) + " (" + item.value("category", "?") + ")";
  }
  return titles;
}

// `text` cut or filled up to `width` characters; a character of UTF-8 stays whole.
std::string Fit(const std::string& text, size_t width) {
  std::string out;
  size_t characters = 0;
  for (const char c : text) {
    const bool begins = (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    if (begins && characters == width) return out;
    characters += begins ? 1 : 0;
    out += c;
  }
  return out + std::string(width - characters, ' ');
}

void Print(const User& user, const std::unordered_map<std::string, std::string>& titles, size_t rows) {
  const auto title = [&](const std::string& id) {
    const auto found = titles.find(id);
    return found == titles.end() ? id : found->second;
  };
  std::printf("\nuser %s, %lld events\n", user.id.c_str(),
              static_cast<long long>(user.recommendation.value("sequence_number", int64_t{0})));
  std::printf("  %s  %s  score\n", Fit("last clicks, newest first", kColumn).c_str(),
              Fit("recommended now", kColumn + 4).c_str());
  const Json& items = user.recommendation["items"];
  for (size_t r = 0; r < rows; ++r) {
    const std::string click = r < user.clicks.size() ? title(user.clicks[user.clicks.size() - 1 - r]) : "";
    std::printf("  %s", Fit(click, kColumn).c_str());
    if (r < items.size()) {
      std::printf("  %2zu. %s  %.3f", r + 1, Fit(title(items[r].value("item_id", "")), kColumn).c_str(),
                  items[r].value("score", 0.0));
    }
    std::printf("\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("A few users' last clicks beside their recommendations");
  app.add_option("--items", flags.items, "items.jsonl")->required()->check(CLI::ExistingFile);
  app.add_option("--events", flags.events, "the replayed events (JSON Lines)")->required()->check(CLI::ExistingFile);
  app.add_option("--recommendations", flags.recommendations, "what replay wrote (JSON Lines)")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--users", flags.users, "how many users")->capture_default_str();
  app.add_option("--rows", flags.rows, "how many clicks and recommendations of each")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  std::vector<User> users = LastUsers(flags);
  if (users.empty()) {
    std::cerr << "freshet-show: " << flags.recommendations << ": no recommendation for a user with " << flags.rows
              << " events or more\n";
    return 1;
  }
  AddClicks(flags, users);
  const auto titles = Titles(flags.items);
  for (const User& user : users) Print(user, titles, flags.rows);
  return 0;
}
