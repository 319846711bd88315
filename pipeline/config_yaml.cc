#include "pipeline/config_yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <sstream>

namespace freshet {
namespace {

// Stops yaml-cpp, which does not get past what begins no document (a comma, say) and would give an empty one for ever.
class ProgressCheck : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override {
    if (mark.pos == begin_) throw YAML::ParserException(mark, "a value cannot begin here");
    begin_ = mark.pos;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  int begin_ = -1;  // of the newest document
};

}  // namespace

std::optional<std::vector<YAML::Node>> ParseYaml(const std::string& text, const YamlFailed& failed) {
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    for (ProgressCheck check; parser.HandleNextDocument(check);) continue;
    return YAML::LoadAll(text);
  } catch (const YAML::Exception& error) {
    failed(error.mark, error.msg);
    return std::nullopt;
  }
}

bool LeavesQuoteOpen(const std::string& text) {
  bool open = false;  // an end-of-document marker is harmless behind anything but an open quote
  ParseYaml(text + "\n...\n", [&](const YAML::Mark&, const std::string&) { open = true; });
  return open;
}

}  // namespace freshet
