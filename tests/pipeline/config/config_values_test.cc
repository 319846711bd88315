#include "pipeline/config_values.h"

#include <gtest/gtest.h>

namespace freshet {
namespace {

using std::chrono::milliseconds;

TEST(ConfigValues, SizesTakeAWholeNumberAndAUnit) {
  EXPECT_EQ(ParseSize("0B"), 0u);
  EXPECT_EQ(ParseSize("3KiB"), 3072u);
  EXPECT_EQ(ParseSize("512MiB"), 512u << 20);
  EXPECT_EQ(ParseSize("1GiB"), 1u << 30);
  for (const char* text : {"", "1", "1GB", "1gib", "1 GiB", "1.5GiB", "-1B", "GiB", "9999999999999GiB", "1GiBx"}) {
    EXPECT_EQ(ParseSize(text), std::nullopt) << text;
  }
}

TEST(ConfigValues, DurationsTakeAWholeNumberAndAUnit) {
  EXPECT_EQ(ParseDuration("100ms"), milliseconds(100));
  EXPECT_EQ(ParseDuration("2s"), milliseconds(2000));
  EXPECT_EQ(ParseDuration("10m"), milliseconds(600'000));
  EXPECT_EQ(ParseDuration("1h"), milliseconds(3'600'000));
  for (const char* text : {"", "100", "1 s", "1d", "-1s", "0.5s", "99999999999999999h"}) {
    EXPECT_EQ(ParseDuration(text), std::nullopt) << text;
  }
}

TEST(ConfigValues, FormattingUsesTheLargestExactUnit) {
  EXPECT_EQ(FormatSize(0), "0B");
  EXPECT_EQ(FormatSize(1023), "1023B");
  EXPECT_EQ(FormatSize(1536u << 20), "1536MiB");
  EXPECT_EQ(FormatSize(uint64_t{1} << 40), "1024GiB");
  EXPECT_EQ(FormatDuration(milliseconds(1500)), "1500ms");
  EXPECT_EQ(FormatDuration(milliseconds(90'000)), "90s");
  EXPECT_EQ(FormatDuration(milliseconds(7'200'000)), "2h");
}

TEST(ConfigValues, NamesThatKafkaTakes) {
  EXPECT_TRUE(IsTopicName("shop.events-v2_x"));
  EXPECT_TRUE(IsTopicName(std::string(249, 'a')));
  for (const std::string& text : {std::string(), std::string("."), std::string(".."), std::string("a/b"),
                                  std::string("a b"), std::string("é"), std::string(250, 'a')}) {
    EXPECT_FALSE(IsTopicName(text)) << text;
  }
}

TEST(ConfigValues, HostsWithPorts) {
  for (const char* text : {"127.0.0.1:8080", "localhost:0", "[::1]:8080", "0.0.0.0:65535"}) {
    EXPECT_TRUE(IsHostAndPort(text)) << text;
  }
  for (const char* text : {"", "8080", ":8080", "localhost", "localhost:", "localhost:65536", "::1:8080", "a b:1"}) {
    EXPECT_FALSE(IsHostAndPort(text)) << text;
  }
}

TEST(ConfigValues, ListsOfBrokers) {
  for (const char* text : {"localhost:9092", "a:1,b:65535", "a:1, b:2", "[::1]:9092,10.0.0.1:9092"}) {
    EXPECT_TRUE(IsBrokerList(text)) << text;
  }
  for (const char* text : {"", " ", ",", ",,", ",a:1", "a:1,", "a:1, ", "a:1,,b:2", "localhost", ":9092", "a:0", "x:y",
                           "x:99999", "http://x:9092", "SSL://x:9092", "::1:9092", "a:1 b:2", "a:1,b"}) {
    EXPECT_FALSE(IsBrokerList(text)) << text;
  }
}

TEST(ConfigValues, JsonPointers) {
  for (const char* text : {"/a", "/a/0/b", "/a~1b", "/~0", "/"}) EXPECT_TRUE(IsJsonPointer(text)) << text;
  for (const char* text : {"", "a", "a/b", "/a~", "/a~2"}) EXPECT_FALSE(IsJsonPointer(text)) << text;
}

TEST(ConfigValues, SecretsAreToldByTheirNames) {
  for (const char* name : {"sasl.password", "ssl.key.password", "ssl.key.pem", "SASL.PASSWORD", "ssl_key",
                           "sasl.oauthbearer.client.secret", "ssl.keystore.password", "sasl.jaas.config"}) {
    EXPECT_TRUE(IsSecretProperty(name)) << name;
  }
  for (const char* name : {"ssl.key.location", "sasl.kerberos.keytab", "sasl.oauthbearer.token.endpoint.url",
                           "session.timeout.ms", "sasl.username"}) {
    EXPECT_FALSE(IsSecretProperty(name)) << name;
  }
}

TEST(ConfigValues, EditDistanceCountsInsertionsDeletionsAndSubstitutions) {
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("hot_cahce", "hot_cache"), 2u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("same", "same"), 0u);
}

}  // namespace
}  // namespace freshet
