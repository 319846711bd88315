"""freshet run while its broker dies and comes back: every event answered, and /readyz says how it is."""

import os
import shutil
import signal
import time

from own_broker import OwnBroker

BROKER = OwnBroker("outage")
OWN, local_kafka = BROKER.directory, BROKER.do
local_kafka("start", "--port", "0")

from kafka_support import produce  # noqa: E402  # it reads $FRESHET_TEST_KAFKA
from run_kafka_test import EVENTS, KafkaCase  # noqa: E402
from support import main  # noqa: E402


class OutageKafka(KafkaCase):
    def covered(self):
        return {(record["user_id"], record["sequence_number"]) for record in self.found()}

    def test_a_broker_that_goes_away_and_comes_back(self):
        lines, most = self.lines(), EVENTS * 2 // 3
        produce(self.events, lines[:most])
        # Small batches and many commits: the broker goes while events are on their way.
        process = self.start(processing__max_batch=2, processing__commit_interval="1ms")
        self.wait_for_answers(EVENTS // 10)
        self.assertEqual(self.ready(process), 200)
        # Killed, and made known as gone: a lone broker that ends in peace leaves out markers of transactions that it
        # still ends (docs/guarantees.md).
        local_kafka("stop", "--now")
        self.wait_for(lambda: self.ready(process) == 503, "it stays ready without a broker")

        local_kafka("fence")
        local_kafka("start")
        produce(self.events, lines[most:])
        self.wait_for(lambda: self.ready(process) == 200, "it does not become ready again")
        self.wait_for(lambda: len(self.covered()) == EVENTS, "answers are missing")
        self.stop(process)
        self.assert_answered(self.found(), repeats=self.guarantee == "at_least_once")


    def stop_without_broker(self, silence):
        """`silence` takes the broker away while commits are on their way; the seconds that SIGTERM then takes."""
        produce(self.events, self.lines())
        process = self.start(processing__max_batch=2, processing__commit_interval="1ms")
        self.wait_for_answers(EVENTS // 10)
        silence()
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        self.assertIn(code, (0, 1), self.said(process))
        self.processes.remove(process)
        process.log.close()
        return time.monotonic() - began

    def test_asked_to_stop_without_a_broker_it_ends_within_5_s(self):
        took = self.stop_without_broker(lambda: local_kafka("stop", "--now"))
        local_kafka("fence")
        local_kafka("start")
        self.assertLess(took, 5)

    def test_asked_to_stop_while_the_broker_hangs_it_ends_within_5_s(self):
        broker = int((OWN / "pid").read_text())
        try:
            took = self.stop_without_broker(lambda: os.kill(broker, signal.SIGSTOP))
        finally:
            os.kill(broker, signal.SIGCONT)
        self.assertLess(took, 5)


class AtLeastOnceTest(OutageKafka):
    guarantee = "at_least_once"


class ExactlyOnceTest(OutageKafka):
    guarantee = "exactly_once"


def tearDownModule():
    local_kafka("stop", "--now")
    shutil.rmtree(OWN)


del OutageKafka  # it has no guarantee of its own


if __name__ == "__main__":
    main()
