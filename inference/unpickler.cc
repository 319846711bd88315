#include "inference/unpickler.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

namespace freshet {
namespace {

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";

// What a pickle may refer to.
struct Global {
  std::string_view name;
  std::optional<StorageType> storage_type = {};
};
constexpr Global kGlobals[] = {{kOrderedDict},
                               {kRebuildTensor},
                               {"torch.FloatStorage", StorageType::kFloat},
                               {"torch.DoubleStorage", StorageType::kDouble},
                               {"torch.HalfStorage", StorageType::kHalf},
                               {"torch.BFloat16Storage", StorageType::kBFloat16}};

constexpr size_t kMaxName = 1000;  // what a pickle may name again and again, it must not be able to make large
constexpr size_t kMaxRank = 8;

// What stands on the stack. Tuples, dicts and tensors are kept aside, and `number` is the place of one: what was
// memoised is the same one; likewise of a storage, and of kGlobals. Texts are the pickle's own bytes.
struct Value {
  enum class Kind { kMark, kNone, kNumber, kText, kGlobal, kTuple, kDict, kStorage, kTensor };
  Kind kind = Kind::kNone;
  int64_t number = 0;
  std::string_view text = {};
};
using Kind = Value::Kind;
using Values = std::vector<Value>;

Global GlobalOf(const Value& value) { return kGlobals[static_cast<size_t>(value.number)]; }

class Unpickler {
 public:
  explicit Unpickler(std::string_view pickle) : left_(pickle) {}

  Result<std::vector<PickledTensor>> Run() {
    while (!stopped_ && !error_) Step();
    if (error_) return *error_;
    return Tensors();
  }

 private:
  void Step();
  void Reduce();
  void LoadStorage();
  void SetItems(const Values& items);
  PickledTensor MakeTensor(const Values& arguments);
  Result<std::vector<PickledTensor>> Tensors();

  void Fail(const std::string& problem) {
    if (!error_) error_ = Error(ErrorCode::kInvalidArgument, "its pickle " + problem);
  }
  std::string_view Take(size_t bytes) {
    if (bytes > left_.size()) {
      Fail("ends early");
      return {};
    }
    const std::string_view taken = left_.substr(0, bytes);
    left_.remove_prefix(bytes);
    return taken;
  }
  // Little-endian, of up to 8 bytes.
  uint64_t TakeNumber(size_t bytes) {
    uint64_t number = 0;
    const std::string_view taken = Take(bytes);
    if (!taken.empty()) std::memcpy(&number, taken.data(), taken.size());
    return number;
  }
  std::string_view TakeLine() {
    const size_t end = left_.find('\n');
    const std::string_view line = Take(end == left_.npos ? left_.size() + 1 : end + 1);
    return line.substr(0, line.empty() ? 0 : line.size() - 1);
  }
  void Push(Kind kind, int64_t number = 0, std::string_view text = {}) { stack_.push_back({kind, number, text}); }
  void PushTuple(Values items) {
    tuples_.push_back(std::move(items));
    Push(Kind::kTuple, static_cast<int64_t>(tuples_.size()) - 1);
  }
  void PushDict() {
    dicts_.emplace_back();
    Push(Kind::kDict, static_cast<int64_t>(dicts_.size()) - 1);
  }
  void PushGlobal() {
    std::string name(TakeLine());
    name.append(".").append(TakeLine());
    const auto known = std::find_if(std::begin(kGlobals), std::end(kGlobals),
                                    [&](const Global& global) { return global.name == name; });
    if (known == std::end(kGlobals)) {
      return Fail("asks for " + name.substr(0, kMaxName) +
                  ", which no state_dict of float tensors does: save model.state_dict() alone");
    }
    Push(Kind::kGlobal, known - std::begin(kGlobals));
  }
  void PushLong() {
    const uint64_t bytes = TakeNumber(1);
    if (bytes > 8) return Fail("has a number of more than 8 bytes");
    Push(Kind::kNumber, static_cast<int64_t>(TakeNumber(bytes)));  // sizes are below 2^63
  }
  Value Pop() { return PopOf(1).front(); }
  // The last `count`; as many, whatever is there.
  Values PopOf(size_t count) {
    if (count > stack_.size()) {
      Fail("takes more than it has");
      return Values(count);
    }
    Values popped(stack_.end() - static_cast<ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return popped;
  }
  Values PopToMark() {
    size_t count = 0;
    while (count < stack_.size() && stack_[stack_.size() - 1 - count].kind != Kind::kMark) ++count;
    Values popped = PopOf(count);
    Pop();
    return popped;
  }
  void Memoise(uint64_t place) {
    if (stack_.empty()) return Fail("takes more than it has");
    memo_[place] = stack_.back();
  }
  void Recall(uint64_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) return Fail("recalls what it never kept");
    stack_.push_back(found->second);
  }
  const Values& TupleOf(const Value& value) {
    static const Values kNothing;
    if (value.kind == Kind::kTuple) return tuples_[static_cast<size_t>(value.number)];
    Fail("has no tuple where one is due");
    return kNothing;
  }
  std::vector<int64_t> NumbersOf(const Value& value) {
    std::vector<int64_t> numbers;
    const Values& tuple = TupleOf(value);
    if (tuple.size() > kMaxRank) Fail("has a tensor of more than 8 dimensions");
    for (size_t i = 0; i < std::min(tuple.size(), kMaxRank); ++i) {
      const Value& item = tuple[i];
      if (item.kind != Kind::kNumber || item.number < 0) Fail("has no size where one is due");
      numbers.push_back(item.number);
    }
    return numbers;
  }

  std::string_view left_;
  bool stopped_ = false;
  std::optional<Error> error_;
  Values stack_;
  std::map<uint64_t, Value> memo_;
  std::vector<Values> tuples_;
  std::vector<std::vector<std::pair<Value, Value>>> dicts_;
  std::vector<std::pair<StorageType, std::string_view>> storages_;  // with its name
  std::vector<PickledTensor> tensors_;
};

// One instruction, of those that protocol 2 writes for a state_dict.
void Unpickler::Step() {
  const auto instruction = static_cast<unsigned char>(TakeNumber(1));
  if (error_) return;
  switch (instruction) {
    case 0x80:  // PROTO
      if (TakeNumber(1) != 2) Fail("is not of protocol 2, torch.save's own");
      return;
    case 'c':  // GLOBAL
      return PushGlobal();
    case 'q':  // BINPUT
      return Memoise(TakeNumber(1));
    case 'r':  // LONG_BINPUT
      return Memoise(TakeNumber(4));
    case 'h':  // BINGET
      return Recall(TakeNumber(1));
    case 'j':  // LONG_BINGET
      return Recall(TakeNumber(4));
    case '(':  // MARK
      return Push(Kind::kMark);
    case 'N':  // NONE
      return Push(Kind::kNone);
    case 0x88:  // NEWTRUE
    case 0x89:  // NEWFALSE
      return Push(Kind::kNumber, instruction == 0x88);
    case 'K':  // BININT1
      return Push(Kind::kNumber, static_cast<int64_t>(TakeNumber(1)));
    case 'M':  // BININT2
      return Push(Kind::kNumber, static_cast<int64_t>(TakeNumber(2)));
    case 'J':  // BININT
      return Push(Kind::kNumber, static_cast<int32_t>(TakeNumber(4)));
    case 0x8a:  // LONG1
      return PushLong();
    case 'X':  // BINUNICODE
      return Push(Kind::kText, 0, Take(TakeNumber(4)));
    case ')':  // EMPTY_TUPLE
      return PushTuple({});
    case 0x85:  // TUPLE1
    case 0x86:  // TUPLE2
    case 0x87:  // TUPLE3
      return PushTuple(PopOf(instruction - 0x84u));
    case 't':  // TUPLE
      return PushTuple(PopToMark());
    case '}':  // EMPTY_DICT
      return PushDict();
    case 's':  // SETITEM
      return SetItems(PopOf(2));
    case 'u':  // SETITEMS
      return SetItems(PopToMark());
    case 'R':  // REDUCE
      return Reduce();
    case 'Q':  // BINPERSID
      return LoadStorage();
    case 'b':  // BUILD: attributes of a dict, such as _metadata
      Pop();
      if (stack_.empty() || stack_.back().kind != Kind::kDict) Fail("gives attributes to what is no dict");
      return;
    case '.':  // STOP
      stopped_ = true;
      return;
    default:
      char text[8];
      std::snprintf(text, sizeof text, "0x%02x", instruction);
      return Fail("has instruction " + std::string(text) +
                  ", which no state_dict needs: save model.state_dict() alone");
  }
}

void Unpickler::Reduce() {
  const Value arguments = Pop(), callable = Pop();
  const std::string_view name = callable.kind == Kind::kGlobal ? GlobalOf(callable).name : std::string_view();
  if (name == kOrderedDict && TupleOf(arguments).empty()) return PushDict();
  if (name != kRebuildTensor) return Fail("calls what is no tensor and no OrderedDict()");
  tensors_.push_back(MakeTensor(TupleOf(arguments)));
  Push(Kind::kTensor, static_cast<int64_t>(tensors_.size()) - 1);
}

// Of (storage, offset, shape, strides, requires_grad, hooks).
PickledTensor Unpickler::MakeTensor(const Values& arguments) {
  PickledTensor tensor;
  if (arguments.size() < 4 || arguments[0].kind != Kind::kStorage || arguments[1].kind != Kind::kNumber) {
    Fail("makes a tensor of something else");
    return tensor;
  }
  std::tie(tensor.storage_type, tensor.storage) = storages_[static_cast<size_t>(arguments[0].number)];
  tensor.offset = arguments[1].number;
  tensor.shape = NumbersOf(arguments[2]);
  tensor.strides = NumbersOf(arguments[3]);
  return tensor;
}

// Of ('storage', type, name, device, elements).
void Unpickler::LoadStorage() {
  const Value id = Pop();
  const Values& about = TupleOf(id);
  if (about.size() != 5 || about[0].text != "storage" || about[1].kind != Kind::kGlobal ||
      about[2].kind != Kind::kText) {
    return Fail("refers to something that is no storage");
  }
  const Global type = GlobalOf(about[1]);
  if (!type.storage_type) return Fail("has a storage of " + std::string(type.name) + ", which is no type of number");
  storages_.emplace_back(*type.storage_type, about[2].text.substr(0, kMaxName));
  Push(Kind::kStorage, static_cast<int64_t>(storages_.size()) - 1);
}

void Unpickler::SetItems(const Values& items) {
  if (stack_.empty() || stack_.back().kind != Kind::kDict || items.size() % 2 != 0)
    return Fail("sets items of no dict");
  auto& dict = dicts_[static_cast<size_t>(stack_.back().number)];
  for (size_t i = 0; i < items.size(); i += 2) dict.emplace_back(items[i], items[i + 1]);
}

Result<std::vector<PickledTensor>> Unpickler::Tensors() {
  const Value top = Pop();
  if (top.kind != Kind::kDict) Fail("is no state_dict");
  if (error_) return *error_;
  const auto& dict = dicts_[static_cast<size_t>(top.number)];
  // The same name and the same tensor again take two bytes each: few would ask for any amount of memory.
  std::vector<std::string_view> names;
  for (const auto& [name, value] : dict) {
    if (name.text.size() > kMaxName) return Error(ErrorCode::kInvalidArgument, "a name of more than 1000 bytes");
    if (name.kind == Kind::kText) names.push_back(name.text);
  }
  std::sort(names.begin(), names.end());
  const auto repeated = std::adjacent_find(names.begin(), names.end());
  if (repeated != names.end()) {
    return Error(ErrorCode::kInvalidArgument, "its entry " + std::string(*repeated) + " is repeated");
  }
  std::vector<PickledTensor> tensors;
  for (const auto& [name, value] : dict) {
    if (name.kind != Kind::kText || value.kind != Kind::kTensor) {
      return Error(ErrorCode::kInvalidArgument,
                   "its entry " + std::string(name.text) + " is no tensor: save model.state_dict() alone");
    }
    tensors.push_back(tensors_[static_cast<size_t>(value.number)]);
    tensors.back().name = name.text;
  }
  return tensors;
}

}  // namespace

Result<std::vector<PickledTensor>> UnpickleStateDict(std::string_view pickle) { return Unpickler(pickle).Run(); }

}  // namespace freshet
