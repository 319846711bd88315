// create_topics PARTITIONS HINT... : makes topics on the broker of $FRESHET_TEST_KAFKA and prints their names, a line
// each. For test scripts: Kafka's own tool takes a Java start for each topic.
#include <cstdlib>
#include <iostream>

#include "tests/ingest/kafka/test_broker.h"

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  for (int i = 2; i < argc; ++i) {
    std::cout << freshet::TestBroker::Shared().NewTopic(argv[i], std::atoi(argv[1])) << std::endl;
  }
  return 0;
}
