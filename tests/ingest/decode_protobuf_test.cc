#include <event.pb.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/timestamp.pb.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/ingest/files_for_tests.h"
#include "tests/support/seed.h"

namespace freshet {
namespace {

using google::protobuf::FileDescriptorProto;
using google::protobuf::FileDescriptorSet;
using google::protobuf::TextFormat;

v1::Event Example() {
  v1::Event event;
  event.set_user_id("u1");
  event.set_item_id("i9");
  event.set_event_type("buy");
  event.set_timestamp(1506826800026);
  event.set_event_id("e7");
  return event;
}

DecoderOptions Options() {
  DecoderOptions options;
  options.format = RecordFormat::kProtobuf;
  return options;
}

void ExpectExample(const Event& event) {
  EXPECT_EQ(event.user_id, "u1");
  EXPECT_EQ(event.item_id, "i9");
  EXPECT_EQ(event.event_type, "buy");
  EXPECT_EQ(event.event_id, "e7");
  EXPECT_EQ(event.timestamp_ms, 1506826800026);
}

std::string Enveloped(const std::string& index, const std::string& message) {
  return std::string("\0\0\0\1\7", 5) + index + message;
}

TEST(DecodeProtobuf, OurMessageBareAndInConfluentsWireFormat) {
  TestDecoder decode(Options());
  const std::string message = Example().SerializeAsString();
  ExpectExample(decode.Good(message));
  ExpectExample(decode.Good(Enveloped(std::string(1, '\0'), message)));
  ExpectExample(decode.Good(Enveloped(std::string("\2\0", 2), message)));  // the same index written out
}

TEST(DecodeProtobuf, AnotherMessageOfTheSchemaIsRefused) {
  TestDecoder decode(Options());
  EXPECT_EQ(decode.Code(Enveloped("\2\2", Example().SerializeAsString())), "other_message");
  EXPECT_EQ(decode.message(),
            "found message [1] of the schema with the bytes 0 0 1 7 as its id, expected [0], freshet.v1.Event");
  EXPECT_EQ(decode.Code(Enveloped(std::string("\4\0\0", 3), Example().SerializeAsString())), "other_message");
}

TEST(DecodeProtobuf, WhatIsLeftOutIsMissing) {
  TestDecoder decode(Options());
  v1::Event event = Example();
  event.clear_event_type();
  event.clear_event_id();
  EXPECT_EQ(decode.Good(event.SerializeAsString()).event_type, "view");
  event.clear_timestamp();
  EXPECT_EQ(decode.Code(event.SerializeAsString()), "missing_timestamp");
  event.clear_user_id();
  EXPECT_EQ(decode.Code(event.SerializeAsString()), "missing_user_id");
  EXPECT_EQ(decode.message(), "user_id (/user_id): absent or null");
  EXPECT_EQ(decode.Code(""), "missing_user_id");
}

TEST(DecodeProtobuf, WhatIsNoMessage) {
  TestDecoder decode(Options());
  const std::string message = Example().SerializeAsString();
  for (size_t size = 1; size < message.size(); ++size) {
    const std::string code = decode.Code(message.substr(0, size));
    v1::Event event;
    EXPECT_EQ(code == "invalid_protobuf", !event.ParseFromString(message.substr(0, size))) << size << ": " << code;
  }
  for (const std::string& bad : {std::string(R"({"user_id":"u1"})"), std::string("\0", 1), std::string("\0\0\0\0\1", 5),
                                 Enveloped("\xff", ""), Enveloped("\6\2\2", ""), message + '\x0c'}) {
    EXPECT_EQ(decode.Code(bad), "invalid_protobuf") << decode.message();
  }
  EXPECT_EQ(decode.Code(message + std::string("\x0a\x7f", 2)), "invalid_protobuf");
  EXPECT_NE(decode.message().find("expected freshet.v1.Event"), std::string::npos) << decode.message();
}

TEST(DecodeProtobuf, IdsFollowTheRulesOfAllFormats) {
  TestDecoder decode(Options());
  v1::Event event = Example();
  event.set_item_id(std::string(1025, 'x'));
  EXPECT_EQ(decode.Code(event.SerializeAsString()), "item_id_too_long");
  event.set_item_id(std::string("a\0b", 3));
  EXPECT_EQ(decode.Code(event.SerializeAsString()), "invalid_item_id");
  std::string bytes = Example().SerializeAsString();
  bytes[2] = '\xff';  // of the user's id
  EXPECT_EQ(decode.Code(bytes), "invalid_utf8");
}

// Whatever the bytes: they are refused, or read as libprotobuf reads them.
TEST(DecodeProtobuf, ReadsWhatTheGeneratedCodeReads) {
  const google::protobuf::LogSilencer silencer;
  TestDecoder decode(Options());
  std::mt19937_64 random(TestSeed());
  int events = 0;
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = Example().SerializeAsString();
    if (random() % 3 == 0) bytes += bytes.substr(random() % bytes.size());  // fields that come twice
    for (size_t edits = random() % 3; edits > 0; --edits) bytes[random() % bytes.size()] = static_cast<char>(random());
    if (bytes[0] == '\0') continue;  // an envelope, which the generated code does not know
    const auto decoded = decode(bytes);
    v1::Event expected;
    const bool parsed = expected.ParseFromString(bytes);
    if (const auto* const event = std::get_if<Event>(&decoded)) {
      if (!parsed) continue;  // it looks at the UTF-8 of all strings
      ++events;
      ASSERT_EQ(event->user_id, expected.user_id());
      ASSERT_EQ(event->item_id, expected.item_id());
      ASSERT_EQ(event->event_type, expected.event_type().empty() ? "view" : expected.event_type());
      ASSERT_EQ(event->event_id, expected.event_id());
      ASSERT_EQ(event->timestamp_ms, expected.timestamp());
    } else if (std::get<DecodeFailure>(decoded).code == "invalid_protobuf") {
      ++refused;
      ASSERT_FALSE(parsed) << std::get<DecodeFailure>(decoded).message;
    }
  }
  EXPECT_GT(events, 5'000);
  EXPECT_GT(refused, 1'000);
}

// A shop's own messages: nested, with integers of every kind, an enum and a Timestamp.
class OwnMessage : public testing::Test {
 protected:
  OwnMessage() {
    google::protobuf::Timestamp::descriptor()->file()->CopyTo(set_.add_file());
    EXPECT_TRUE(TextFormat::ParseFromString(R"(
      name: "shop.proto" package: "shop" syntax: "proto3" dependency: "google/protobuf/timestamp.proto"
      enum_type { name: "Kind" value { name: "LOOK" number: 0 } value { name: "BUY" number: 1 } }
      message_type { name: "Other" }
      message_type { name: "Outer"
        nested_type { name: "Visitor" field { name: "id" number: 1 label: LABEL_OPTIONAL type: TYPE_SINT64 } }
        nested_type { name: "Click"
          field { name: "visitor" number: 16 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".shop.Outer.Visitor" }
          field { name: "sku" number: 2 label: LABEL_OPTIONAL type: TYPE_FIXED32 }
          field { name: "kind" number: 3 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".shop.Kind" }
          field { name: "at" number: 4 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" }
          field { name: "tags" number: 5 label: LABEL_REPEATED type: TYPE_STRING }
          field { name: "price" number: 6 label: LABEL_OPTIONAL type: TYPE_DOUBLE }
          field { name: "seconds" number: 7 label: LABEL_OPTIONAL type: TYPE_SFIXED64 }
        } })",
                                            set_.add_file()));
    options_.format = RecordFormat::kProtobuf;
    options_.protobuf = {folder_.Write("shop.pb", set_.SerializeAsString()).string(), "shop.Outer.Click"};
    options_.mapping.user_id.path = "/visitor/id";
    options_.mapping.item_id.path = "/sku";
    options_.mapping.event_type.path = "/kind";
    options_.mapping.timestamp.path = "/at";
    for (const FileDescriptorProto& file : set_.file()) EXPECT_NE(pool_.BuildFile(file), nullptr);
  }

  std::string Click(const std::string& text) {
    const std::unique_ptr<google::protobuf::Message> message(
        factory_.GetPrototype(pool_.FindMessageTypeByName("shop.Outer.Click"))->New());
    EXPECT_TRUE(TextFormat::ParseFromString(text, message.get())) << text;
    return message->SerializeAsString();
  }

  std::string Refusal() const {
    const auto decoder = MakeDecoder(options_);
    return decoder.ok() ? "" : decoder.error().message();
  }

  const TemporaryFolder folder_;
  FileDescriptorSet set_;
  google::protobuf::DescriptorPool pool_;
  google::protobuf::DynamicMessageFactory factory_{&pool_};
  DecoderOptions options_;
};

TEST_F(OwnMessage, NestedFieldsIntegersEnumsAndTimestamps) {
  TestDecoder decode(options_);
  const std::string click =
      Click("visitor { id: -5 } sku: 4000000000 kind: BUY at { seconds: 1506826800 nanos: 26999999 } tags: 'x'");
  for (const std::string& bytes : {click, Enveloped("\4\2\2", click)}) {
    const Event event = decode.Good(bytes);
    EXPECT_EQ(event.user_id, "-5");
    EXPECT_EQ(event.item_id, "4000000000");
    EXPECT_EQ(event.event_type, "BUY");
    EXPECT_EQ(event.event_id, "");
    EXPECT_EQ(event.timestamp_ms, 1506826800026);
  }
  EXPECT_EQ(decode.Code(Enveloped(std::string(1, '\0'), click)), "other_message");
}

TEST_F(OwnMessage, ZeroIsWhatIsNotThereButTheFirstNameOfAnEnum) {
  TestDecoder decode(options_);
  EXPECT_EQ(decode.Good(Click("visitor { id: 1 } sku: 2 at { seconds: 1 }")).event_type, "LOOK");
  EXPECT_EQ(decode.Good(Click("visitor { id: 1 } sku: 2 kind: 77 at { seconds: 1 }")).event_type, "77");
  EXPECT_EQ(decode.Code(Click("visitor { id: 0 } sku: 2 at { seconds: 1 }")), "missing_user_id");
  EXPECT_EQ(decode.Code(Click("sku: 2 at { seconds: 1 }")), "missing_user_id");
  EXPECT_EQ(decode.Code(Click("visitor { id: 1 } at { seconds: 1 }")), "missing_item_id");
  EXPECT_EQ(decode.Code(Click("visitor { id: 1 } sku: 2")), "missing_timestamp");
  EXPECT_EQ(decode.Code(Click("visitor { id: 1 } sku: 2 at { seconds: 9223372036854775807 }")),
            "timestamp_out_of_range");
  EXPECT_EQ(decode.Code(Click("visitor { id: 1 } sku: 2 at { seconds: -1 }")), "timestamp_out_of_range");
}

TEST_F(OwnMessage, ATimeOfAnotherUnit) {
  options_.mapping.timestamp.path = "/seconds";
  options_.mapping.timestamp_unit = TimeUnit::kSeconds;
  TestDecoder decode(options_);
  EXPECT_EQ(decode.Good(Click("visitor { id: 1 } sku: 2 seconds: 1506826800")).timestamp_ms, 1506826800000);
}

TEST_F(OwnMessage, MappingsThatCannotBe) {
  const auto with = [this](FieldMapping EventMapping::*field, const char* path) {
    DecoderOptions options = options_;
    std::swap(options, options_);
    (options_.mapping.*field).path = path;
    std::string refusal = Refusal();
    std::swap(options, options_);
    return refusal;
  };
  EXPECT_EQ(Refusal(), "");
  EXPECT_EQ(with(&EventMapping::item_id, "/price"),
            "source.mapping.item_id: \"/price\": price is a double, expected a string, bytes, an integer or an enum");
  EXPECT_EQ(with(&EventMapping::item_id, "/tags"),
            "source.mapping.item_id: \"/tags\": tags is repeated, expected a single field");
  EXPECT_EQ(with(&EventMapping::item_id, "/nothing"),
            "source.mapping.item_id: \"/nothing\": shop.Outer.Click has no such field; it has visitor, sku, kind, at, "
            "tags, price, seconds");
  EXPECT_EQ(with(&EventMapping::item_id, "/sku/id"),
            "source.mapping.item_id: \"/sku/id\": sku is a fixed32, expected a message");
  EXPECT_EQ(
      with(&EventMapping::user_id, "/visitor"),
      "source.mapping.user_id: \"/visitor\": visitor is a shop.Outer.Visitor, expected a string, bytes, an integer "
      "or an enum");
  EXPECT_EQ(with(&EventMapping::event_id, "/at/nanos"),
            "source.mapping.timestamp: \"/at\": is a time, and another field is mapped into it");
  options_.mapping.timestamp_unit = TimeUnit::kSeconds;
  EXPECT_EQ(Refusal(), "source.mapping.timestamp: \"/at\": is a google.protobuf.Timestamp, which needs no unit");
}

TEST_F(OwnMessage, DescriptorSetsThatCannotBe) {
  const std::string path = options_.protobuf.descriptor_set;
  options_.protobuf.message = "shop.Nothing";
  EXPECT_EQ(Refusal(), "source.protobuf.message: \"shop.Nothing\": no such message in " + path);
  options_.protobuf.message = "";
  EXPECT_EQ(Refusal(), "source.protobuf.message: \"\": expected both descriptor_set and message, or neither of them");
  options_.protobuf = {path + "x", "shop.Outer.Click"};
  EXPECT_EQ(Refusal(), "source.protobuf.descriptor_set: \"" + path + "x\": cannot be read");
  options_.protobuf.descriptor_set = folder_.Write("bad.pb", "syntax = \"proto3\";").string();
  EXPECT_NE(Refusal().find("expected a file of protoc --include_imports"), std::string::npos) << Refusal();
  FileDescriptorSet alone;
  *alone.add_file() = set_.file(1);
  options_.protobuf.descriptor_set = folder_.Write("alone.pb", alone.SerializeAsString()).string();
  EXPECT_NE(Refusal().find("was it made with --include_imports?"), std::string::npos) << Refusal();
}

TEST(DecodeProtobuf, LogFilesHaveLines) {
  const auto header = HasHeaderLine(Options());
  ASSERT_FALSE(header.ok());
  EXPECT_NE(header.error().message().find("expected json, csv or tsv"), std::string::npos);
}

}  // namespace
}  // namespace freshet
