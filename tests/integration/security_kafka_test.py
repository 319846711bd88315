"""freshet run and serve on a broker that asks for TLS and a password: PLAIN, SCRAM and client certificates, and what is said where
they are wrong. docs/operations.md has the settings.
"""

import contextlib
import datetime
import functools
import json
import re
import shutil
import socket
import subprocess

from own_broker import OwnBroker, java

BROKER = OwnBroker("security")
OWN, local_kafka = BROKER.directory, BROKER.do
PASSWORD = "open-sesame/42"  # in no message and no file that freshet writes
KEY_PASSWORD = "another open sesame/43"
# name -> how clients come in; the certificate that the broker shows there
LISTENERS = {"SASL": ("SASL_SSL", "broker"), "MUTUAL": ("SSL", "broker"), "EXPIRED": ("SSL", "expired"), "MISNAMED": ("SSL", "misnamed")}


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, cwd=OWN, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments}: {done.stderr}")


def certify(name, *, subject="127.0.0.1", days=2, authority="authority", password=None):
    """NAME.key and NAME.pem, signed, valid until in `days` days; NAME.both, as a broker's keystore wants it."""
    encrypted = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    openssl("req", "-new", "-newkey", "rsa:2048", *encrypted, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
    (OWN / f"{name}.ext").write_text(f"subjectAltName={'IP' if subject[0].isdigit() else 'DNS'}:{subject}\n")
    today = datetime.datetime.now(datetime.timezone.utc)
    begin, end = (f"{today + datetime.timedelta(days):%Y%m%d%H%M%SZ}" for days in (-2, days))
    openssl("ca", "-batch", "-notext", "-config", "ca.conf", "-cert", f"{authority}.pem", "-keyfile", f"{authority}.key",
            "-in", f"{name}.csr", "-startdate", begin, "-enddate", end, "-extfile", f"{name}.ext", "-out", f"{name}.pem")  # fmt: skip
    (OWN / f"{name}.both").write_text((OWN / f"{name}.key").read_text() + (OWN / f"{name}.pem").read_text())


def make_certificates():
    (OWN / "index").write_text("")
    (OWN / "serial").write_text("01\n")
    (OWN / "ca.conf").write_text("[ca]\ndefault_ca=c\n[c]\nnew_certs_dir=.\ndatabase=index\nserial=serial\ndefault_md=sha256\npolicy=p\n"
                                 "[p]\ncommonName=supplied\n")  # fmt: skip
    for authority in ("authority", "stranger"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-keyout", f"{authority}.key", "-out", f"{authority}.pem",
                "-subj", f"/CN={authority}")  # fmt: skip
    certify("broker")
    certify("expired", days=-1)
    certify("misnamed", subject="elsewhere.example")
    certify("client", password=KEY_PASSWORD)
    certify("uninvited", authority="stranger")


def free_ports(count):
    with contextlib.ExitStack() as probes:
        return [probes.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def start_broker():
    """As deploy/local-kafka.sh starts it, for kcat, and with listeners for freshet beside that one."""
    make_certificates()
    local_kafka("start", "--port", "0")
    local_kafka("stop")
    addresses = {name: f"127.0.0.1:{port}" for name, port in zip(LISTENERS, free_ports(len(LISTENERS)), strict=True)}
    text = (OWN / "server.properties").read_text()
    for key in ("listeners", "advertised.listeners"):
        text = re.sub(f"(?m)^{key}=.*", lambda line: ",".join([line[0], *(f"{name}://{at}" for name, at in addresses.items())]), text)
    protocols = [f"{name}:{protocol}" for name, (protocol, _) in LISTENERS.items()]
    text = re.sub("(?m)^listener.security.protocol.map=.*", lambda line: ",".join([line[0], *protocols]), text)
    modules = "org.apache.kafka.common.security"
    text += f"""
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
ssl.truststore.type=PEM
ssl.truststore.location={OWN}/authority.pem
ssl.keystore.type=PEM
listener.name.mutual.ssl.client.auth=required
listener.name.sasl.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_freshet="{PASSWORD}";
listener.name.sasl.scram-sha-256.sasl.jaas.config={modules}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
"""
    text += "".join(f"listener.name.{name.lower()}.ssl.keystore.location={OWN}/{shown}.both\n" for name, (_, shown) in LISTENERS.items())
    (OWN / "server.properties").write_text(text)
    local_kafka("start")
    return addresses


LISTENS_AT = start_broker()

from kafka_support import ADDRESS, WAIT_S, kcat, produce  # noqa: E402  # they read $FRESHET_TEST_KAFKA
from run_kafka_test import KafkaCase  # noqa: E402
from support import main  # noqa: E402


@functools.cache
def add_scram_user():
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        java("kafka.admin.ConfigCommand", "--bootstrap-server", ADDRESS, "--alter", "--entity-type", "users",
             "--entity-name", "freshet", "--add-config", f"{mechanism}=[password={PASSWORD}]")  # fmt: skip


class Security(KafkaCase):
    guarantee = "exactly_once"

    def secured(self, listener, authority="authority", **properties):
        """Settings; what is secret comes from the environment, as docs/operations.md has it."""
        given = {"security.protocol": LISTENERS[listener][0].lower(), "ssl.ca.location": OWN / f"{authority}.pem", **properties}
        return {"kafka.bootstrap_servers": LISTENS_AT[listener], **{f"kafka.properties.{name}": value for name, value in given.items()}}

    def sasl(self, mechanism, **more):
        return self.secured("SASL", **{"sasl.mechanism": mechanism, "sasl.username": "freshet", **more})

    def mutual(self, who="client", **more):
        return self.secured("MUTUAL", **{"ssl.certificate.location": OWN / f"{who}.pem", "ssl.key.location": OWN / f"{who}.key", **more})

    def start_with(self, command, settings, **more):
        return self.start_program(command, settings={**self.kafka_settings(**more), **settings})

    def keep(self, **secrets):
        for name, value in secrets.items():
            self.environment[f"FRESHET_KAFKA__PROPERTIES__{name}"] = value

    def answered_through(self, settings):
        run = self.start_with("run", settings)
        serve = self.start_with("serve", settings, serve__directory=str(self.path("served")))
        produce(self.events, self.lines()[:500])
        self.wait_for_answers(500)
        self.wait_until_ready(serve)
        newest = {record["user_id"]: record for record in self.found()}
        for user, record in list(newest.items())[:20]:
            self.assertEqual(self.ask(serve, f"/v1/recommendations/{user}"), (200, json.dumps(record, separators=(",", ":"))))
        for process in (run, serve):
            status = self.ask(process, "/v1/status")[1]
            self.stop(process)
            self.says_no_secret(self.said(process) + status)
        printed = self.run_program("config", "print", settings={**self.kafka_settings(), **settings})
        self.assertIn("security.protocol", printed.stdout)
        self.says_no_secret(printed.stdout + printed.stderr)

    def says_no_secret(self, text):
        self.assertNotIn(PASSWORD, text)
        self.assertNotIn(KEY_PASSWORD, text)

    def test_plain(self):
        self.keep(SASL__PASSWORD=PASSWORD)
        self.answered_through(self.sasl("PLAIN"))

    def scram(self, mechanism):
        add_scram_user()
        self.keep(SASL__PASSWORD=PASSWORD)
        librdkafka = re.search(r"librdkafka (\d+)\.(\d+)\.(\d+)", kcat("-V").decode())
        if tuple(map(int, librdkafka.groups())) >= (2, 6, 1):
            self.answered_through(self.sasl(mechanism))
        else:  # of which Kafka 4 thinks that the password is wrong
            self.ends(self.sasl(mechanism), "the password is right", "2.6.1", "PLAIN", code=1)

    def test_scram_256(self):
        self.scram("SCRAM-SHA-256")

    def test_scram_512(self):
        self.scram("SCRAM-SHA-512")

    def test_client_certificates(self):
        self.keep(SSL__KEY__PASSWORD=KEY_PASSWORD)
        self.answered_through(self.mutual())

    def ends(self, settings, *fragments, code=2, logged=""):
        process = self.start_with("run", settings)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(WAIT_S)
        self.assertEqual(process.poll(), code, self.said(process))
        self.assert_error(self.said(process), *fragments)
        self.assertIn(logged, self.said(process))  # by librdkafka
        self.says_no_secret(self.said(process))
        self.processes.remove(process)  # its end was wanted
        process.log.close()

    def waits(self, settings, *fragments):
        """A broker may get another certificate. Until then the log and /readyz say why."""
        process = self.start_with("run", settings)
        for fragment in fragments:
            self.wait_for(lambda fragment=fragment: fragment in self.said(process), f"{fragment} is not in the log")
        self.wait_for(lambda: "no answer from" in self.ask(process, "/readyz")[1], "the reason does not come")
        self.assertEqual(self.ready(process), 503)
        self.assertIsNone(process.poll(), self.said(process))
        self.says_no_secret(self.said(process) + self.ask(process, "/readyz")[1])
        process.kill()
        process.wait()

    def test_wrong_passwords(self):
        self.keep(SASL__PASSWORD=PASSWORD + "1")
        for mechanism in ("PLAIN", "SCRAM-SHA-512"):
            self.ends(self.sasl(mechanism), LISTENS_AT["SASL"], "Authentication failed", code=1)
        self.ends(self.secured("SASL"), "kafka.properties.sasl.mechanism", "SCRAM-SHA-512")

    def test_wrong_certificates(self):
        subject = "(subject=/CN={}, issuer=/CN=authority)"
        self.waits(self.secured("EXPIRED"), subject.format("expired"), "certificate has expired")
        self.waits(self.secured("MISNAMED"), subject.format("misnamed"), "IP address mismatch")
        self.waits(self.secured("MUTUAL", authority="stranger"), subject.format("broker"), "unable to get local issuer certificate")

    def test_a_certificate_that_nobody_looks_at(self):
        self.answered_through(self.secured("EXPIRED", **{"enable.ssl.certificate.verification": "false"}))

    def test_wrong_client_certificates(self):
        self.waits(self.secured("MUTUAL"), "certificate")
        self.waits(self.mutual("uninvited"), "certificate")
        self.keep(SSL__KEY__PASSWORD="wrong")
        self.ends(self.mutual(), "kafka.properties", "ssl.key.location", logged="maybe wrong password")
        self.ends(self.secured("MUTUAL", **{"ssl.ca.location": "/nowhere.pem"}), "kafka.properties", "ssl.ca.location", logged="/nowhere.pem")

    def test_another_protocol(self):
        self.waits({"kafka.bootstrap_servers": LISTENS_AT["SASL"]}, "no broker answers")  # librdkafka 2.16 knows no more
        self.waits({**self.secured("MUTUAL"), "kafka.bootstrap_servers": ADDRESS}, "SSL handshake failed")


def tearDownModule():
    local_kafka("stop", "--now")
    shutil.rmtree(OWN)


if __name__ == "__main__":
    main()
