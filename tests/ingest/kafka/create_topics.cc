// create_topics PARTITIONS HINT... : makes topics on the broker of $FRESHET_TEST_KAFKA and prints their names, a line
// each.
// create_topics --commit GROUP TOPIC PARTITION OFFSET : moves a group's offset.
// create_topics --delete TOPIC PARTITION : deletes the records that it holds.
// create_topics --drop TOPIC : deletes the topic.
// For test scripts: Kafka's own tools take a Java start for each call.
#include <cstdlib>
#include <iostream>
#include <string_view>

#include "tests/ingest/kafka/test_broker.h"

int main(int argc, char** argv) {
  if (argc == 6 && std::string_view(argv[1]) == "--commit") {
    freshet::TestBroker::Shared().Commit(argv[2], argv[3], std::atoi(argv[4]), std::atoll(argv[5]));
    return 0;
  }
  if (argc == 4 && std::string_view(argv[1]) == "--delete") {
    freshet::TestBroker& broker = freshet::TestBroker::Shared();
    broker.DeleteRecords(argv[2], std::atoi(argv[3]), broker.End(argv[2], std::atoi(argv[3])));
    return 0;
  }
  if (argc == 3 && std::string_view(argv[1]) == "--drop") {
    freshet::TestBroker::Shared().DeleteTopic(argv[2]);
    return 0;
  }
  if (argc < 3) return 2;
  for (int i = 2; i < argc; ++i) {
    std::cout << freshet::TestBroker::Shared().NewTopic(argv[i], std::atoi(argv[1])) << std::endl;
  }
  return 0;
}
