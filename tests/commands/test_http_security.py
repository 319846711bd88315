"""Who may ask freshet run over HTTP, and how: bearer tokens, TLS with real certificates (openssl), addresses that other
machines reach. No broker is needed: the control plane answers before there is one. Standard library, openssl and curl."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time

from support import TIMEOUT_S, CommandTest, main, write_model

READ, WRITE, ADMIN = "r" * 32, "w" * 32, "a" * 32
TOKENS = f"# who may what\nread {READ}\n\nwrite\t{WRITE}\nread,write,admin {ADMIN}\n"


class Secured(CommandTest):
    def setUp(self):
        super().setUp()
        write_model(self.path("model"), ["i1", "i2"])
        self.processes = []
        self.addCleanup(self.kill_all)

    def kill_all(self):
        for process in self.processes:
            process.kill()
            process.wait()
            process.log.close()

    def secret(self, name, content, mode=0o600):
        path = self.write(name, content)
        path.chmod(mode)
        return path

    def http_settings(self, **more):
        return self.settings(kafka__bootstrap_servers="127.0.0.1:1", **{"http__listen": "127.0.0.1:0", **more})

    def start(self, **more):
        log = open(self.path(f"log-{len(self.processes)}"), "w+b")
        command = self.command(["run"], self.http_settings(**more))
        process = subprocess.Popen(command, stderr=log, cwd=self.directory, env=self.environment)
        process.log = log
        self.processes.append(process)
        process.port = int(self.wait_for_line(process, r"on port (\d+)")[1])
        return process

    def said(self, process):
        process.log.seek(0)
        return process.log.read().decode()

    def wait_for_line(self, process, pattern):
        deadline = time.monotonic() + TIMEOUT_S
        while not (found := re.search(pattern, self.said(process))):
            self.assertIsNone(process.poll(), self.said(process))
            self.assertLess(time.monotonic(), deadline, self.said(process))
            time.sleep(0.05)
        return found

    def refused(self, *fragments, **more):
        """Exit code 2, and an error that says all of `fragments`."""
        done = self.run_program("run", settings=self.http_settings(**more), expect=2)
        self.assert_error(done.stderr, *fragments)
        return done.stderr

    def ask(self, process, target, token=None, method="GET", body=None, context=None, host=None):
        """(status, headers, body)"""
        headers = {} if token is None else {"Authorization": token if " " in token else f"Bearer {token}"}
        if host is not None:
            headers["Host"] = host
        if context is None:
            connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=20)
        else:
            connection = http.client.HTTPSConnection("localhost", process.port, timeout=20, context=context)
        with contextlib.closing(connection):
            connection.request(method, target, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def status(self, *question, **more):
        return self.ask(*question, **more)[0]


class Tokens(Secured):
    def test_each_scope_opens_what_it_is_for(self):
        process = self.start(http__tokens_file=self.secret("tokens", TOKENS))
        for path in ("/healthz", "/readyz", "/nothing"):
            self.assertNotIn(self.status(process, path), (401, 403), path)
        rank = json.dumps({"user_id": "u1", "items": ["i1"]})
        questions = (("GET", "/metrics", None), ("GET", "/v1/status", None), ("GET", "/v1/users/u1", None),
                     ("POST", "/v1/rank", rank), ("GET", "/v1/recommendations/u1", None), ("GET", "/v1/x", None))  # fmt: skip
        for method, path, body in questions:
            for token, expected in ((None, 401), (WRITE, 403), (READ, 0), (ADMIN, 0)):
                status, headers, _ = self.ask(process, path, token, method, body)
                self.assert_status(status, expected, f"{method} {path} {token}", headers)
        for token, expected in ((None, 401), (READ, 403), (WRITE, 0), (ADMIN, 0)):
            status, headers, _ = self.ask(process, "/v1/events", token, "POST", "{}")
            self.assert_status(status, expected, f"events {token}", headers)
        for token, expected in ((None, 401), (READ, 403), (WRITE, 403), (ADMIN, 0)):
            status, headers, _ = self.ask(process, "/v1/users/u1", token, "DELETE")
            self.assert_status(status, expected, f"delete {token}", headers)
        self.assertEqual(self.status(process, "/v1/status", method="HEAD"), 401)
        self.assertNotIn(READ, self.said(process))

    def assert_status(self, status, expected, where, headers):
        if expected == 0:
            return self.assertNotIn(status, (401, 403), where)
        self.assertEqual(status, expected, where)
        self.assertTrue(headers["WWW-Authenticate"].startswith("Bearer "), where)
        self.assertEqual(headers["Content-Type"], "application/problem+json")

    def test_what_is_no_token_opens_nothing(self):
        process = self.start(http__tokens_file=self.secret("tokens", TOKENS))
        for wrong in ("Bearer ", "Bearer  ", "Basic " + READ, "Bearer " + READ[:-1], "Bearer " + READ + "r", "Bearer x" + READ,
                      "Bearer \xff\xfe", "Bearer " + READ + " " + WRITE, "Bearer " + "r" * 4000, "Bearer" + READ + " "):  # fmt: skip
            self.assertEqual(self.status(process, "/v1/status", wrong), 401, wrong)
        self.assertEqual(self.status(process, f"/v1/status?access_token={READ}"), 401)
        for right in (f"bearer {READ}", f"BEARER   {READ}"):
            self.assertEqual(self.status(process, "/v1/status", right), 200, right)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", process.port, timeout=20)) as connection:
            connection.putrequest("GET", "/v1/status")
            for token in (READ, "x" * 32):
                connection.putheader("Authorization", f"Bearer {token}")
            connection.endheaders()
            self.assertEqual(connection.getresponse().status, 400)

    def test_a_file_that_is_none_ends_the_start(self):
        self.refused("http.tokens_file: ", "tokens: No such file", http__tokens_file=self.path("tokens"))
        self.refused("expected a file", http__tokens_file=self.directory)
        for mode in (0o604, 0o620, 0o602, 0o644):
            self.refused("tokens: mode 0", "expected 0600", http__tokens_file=self.secret("tokens", TOKENS, mode))
        for content, fragment in (
            ("", "tokens: expected a token"), ("# none\n", "tokens: expected a token"), (READ, "tokens:1: expected scopes"),
            (f"read {READ}\nroot {WRITE}", "tokens:2: expected scopes"), (f"read, {READ}", "tokens:1: expected scopes"),
            ("read short", "tokens:1: the token: expected 16 to 512"), (f"read {READ}\u00e9", "tokens:1: the token"),
            (f"read {READ}\nwrite {READ}", "tokens:2: the token stands in a line before"),
            ("x" * 1_100_000, "expected at most 1 MiB"),
        ):  # fmt: skip
            said = self.refused(fragment, http__tokens_file=self.secret("tokens", content))
            self.assertNotIn(READ, said)

    def test_tokens_come_and_go_with_the_file(self):
        path = self.secret("tokens", TOKENS, 0o640)
        process = self.start(http__tokens_file=path)
        self.secret("next", f"read {'n' * 32}\n").rename(path)
        self.wait_for_line(process, "loaded anew")
        self.assertEqual(self.status(process, "/v1/status", READ), 401)
        self.assertEqual(self.status(process, "/v1/status", "n" * 32), 200)
        self.secret("bad", "nonsense\n").rename(path)
        self.wait_for_line(process, "going on with the tokens and the certificate from before")
        self.assertEqual(self.status(process, "/v1/status", "n" * 32), 200)


class Addresses(Secured):
    def test_no_other_machine_asks_unless_it_is_said(self):
        tokens = self.secret("tokens", TOKENS)
        for listen in ("0.0.0.0:0", "[::]:0"):
            self.refused(
                f"http.listen: {listen}: ", "http.tokens_file", "http.allow_anonymous", "http.tls.certificate",
                "http.allow_plaintext", "127.0.0.1", http__listen=f'"{listen}"',
            )  # fmt: skip
            checked = self.run_program("config", "check", settings={"http.listen": f'"{listen}"'}, expect=2).stderr
            for word in (f"http.listen: {listen}: ", "http.tokens_file", "http.tls.certificate"):
                self.assertIn(word, checked)
        for listen in ("127.0.0.1:0", "[::1]:0", "somewhere.example:80"):
            self.run_program("config", "check", settings={"http.listen": f'"{listen}"'})
        said = self.refused("http.tls.certificate", http__listen="0.0.0.0:0", http__tokens_file=tokens)
        self.assertNotIn("allow_anonymous", said)
        said = self.refused("http.tokens_file", http__listen="0.0.0.0:0", http__allow_plaintext="true")
        self.assertNotIn("tls", said)
        process = self.start(http__listen="0.0.0.0:0", http__tokens_file=tokens, http__allow_plaintext="true")
        self.assertEqual(self.status(process, "/v1/status"), 401)
        open_to_all = self.start(
            state="other", http__listen="0.0.0.0:0", http__allow_anonymous="true", http__allow_plaintext="true"
        )
        self.assertEqual(self.status(open_to_all, "/v1/status"), 200)
        named = self.start(state="third", http__listen="localhost:0")
        self.assertEqual(self.status(named, "/v1/status"), 200)


    def test_a_name_that_may_be_anothers_opens_nothing(self):
        # As a browser sends it once evil.example has been made to point to this machine.
        process = self.start()
        ours = ("localhost", "LocalHost:80", "shop.localhost:8080", "127.0.0.1", "127.0.0.1:9", "[::1]:8080", "192.0.2.1:80", "")
        for host in ours:
            self.assertEqual(self.status(process, "/v1/status", host=host), 200, host)
        anothers = ("evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost",
                    "[::1].evil.example", "localhost@evil.example", "1", "[evil.example]")  # fmt: skip
        for host in anothers:
            for method, path in (("GET", "/v1/status"), ("GET", "/metrics"), ("POST", "/v1/events"), ("DELETE", "/v1/users/u1")):
                status, _, body = self.ask(process, path, method=method, host=host)
                self.assertEqual(status, 421, f"{method} {path} {host}")
                self.assertIn("http.tokens_file", json.loads(body)["detail"])
            self.assertEqual(self.status(process, "/healthz", host=host), 200, host)
        with_tokens = self.start(state="secured", http__tokens_file=self.secret("tokens", TOKENS))
        self.assertEqual(self.status(with_tokens, "/v1/status", READ, host="shop.example"), 200)
        behind_proxy = self.start(state="behind", http__allow_anonymous="true")
        self.assertEqual(self.status(behind_proxy, "/v1/status", host="shop.example"), 200)


class Tls(Secured):
    def openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=self.directory)

    def certificate(self, name, *arguments, days="30"):
        """A self-signed one for localhost: (certificate, key)."""
        pair = self.path(f"{name}.pem"), self.path(f"{name}.key")
        self.openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", days, "-out", pair[0], "-keyout", pair[1], *arguments,
        )  # fmt: skip
        pair[1].chmod(0o600)
        return pair

    def tls(self, pair, **more):
        return {"http__tls__certificate": pair[0], "http__tls__key": pair[1], **more}

    def trusting(self, pair, **more):
        context = ssl.create_default_context(cafile=pair[0])
        for name, value in more.items():
            setattr(context, name, value)
        return context

    def test_https_for_clients_that_check(self):
        pair = self.certificate("own")
        tokens = self.secret("tokens", TOKENS)
        process = self.start(**self.tls(pair, http__listen="0.0.0.0:0", http__tokens_file=tokens))
        context = self.trusting(pair)
        with contextlib.closing(
            http.client.HTTPSConnection("localhost", process.port, timeout=20, context=context)
        ) as connection:
            for _ in range(20):  # one connection
                connection.request("GET", "/v1/status", headers={"Authorization": f"Bearer {READ}"})
                answer = connection.getresponse()
                self.assertEqual((answer.status, json.loads(answer.read())["ready"]), (200, False))
                self.assertEqual(answer.headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(self.status(process, "/v1/status", context=context), 401)
        self.assertEqual(self.status(process, "/v1/rank", READ, "POST", " " * 60_000, context=context), 400)
        self.assertEqual(self.status(process, "/v1/rank", READ, "POST", " " * 70_000, context=context), 413)
        for version, works in (("TLSv1_2", True), ("TLSv1_3", True), ("TLSv1_1", False)):
            exact = self.trusting(pair)
            with contextlib.suppress(ValueError):
                exact.set_ciphers("DEFAULT@SECLEVEL=0")
                exact.minimum_version = exact.maximum_version = getattr(ssl.TLSVersion, version)
            if works:
                self.assertEqual(self.status(process, "/healthz", context=exact), 200, version)
            else:
                with self.assertRaises(OSError):
                    self.ask(process, "/healthz", context=exact)
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.ask(process, "/healthz", context=ssl.create_default_context())
        with self.assertRaises((OSError, http.client.HTTPException)):
            self.ask(process, "/healthz")  # plain HTTP
        self.assertEqual(self.status(process, "/healthz", context=context), 200)

    def test_curl_and_a_close_that_is_told(self):
        if shutil.which("curl") is None:
            self.skipTest("needs curl")
        pair = self.certificate("own")
        process = self.start(**self.tls(pair))
        url = f"https://localhost:{process.port}"
        done = subprocess.run(
            ["curl", "-sS", "--cacert", pair[0], url + "/healthz", url + "/healthz"],
            check=False,
            capture_output=True,
            timeout=60,
        )
        self.assertEqual((done.returncode, done.stdout), (0, b'{"status":"ok"}' * 2), done.stderr)
        with (
            self.connected(process) as plain,
            self.trusting(pair).wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = b""
            while piece := client.recv(4096):  # raises where the end is not told (close_notify)
                received += piece
            self.assertTrue(received.endswith(b'{"status":"ok"}'), received)

    def connected(self, process):
        return socket.create_connection(("127.0.0.1", process.port), timeout=30)

    def test_handshakes_that_stand_still_cost_nothing(self):
        pair = self.certificate("own")
        process = self.start(**self.tls(pair))
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(self.connected(process)) for _ in range(300)]  # more than are kept
            for client in silent[::2]:
                client.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
            began = time.monotonic()
            self.assertEqual(self.status(process, "/healthz", context=self.trusting(pair)), 200)
            self.assertLess(time.monotonic() - began, 5)
            garbage = stack.enter_context(self.connected(process))
            garbage.sendall(os.urandom(4000))
            while True:
                with contextlib.suppress(ConnectionError):
                    if garbage.recv(4096):
                        continue
                break
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                self.assertEqual(silent[-1].recv(1), b"")  # closed 10 s after it came
            self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(self.status(process, "/healthz", context=self.trusting(pair)), 200)

    def test_files_that_will_not_do_end_the_start(self):
        pair, other = self.certificate("own"), self.certificate("other")
        missing = self.path("missing")
        self.refused("http.tls: ", "missing: No such file", **self.tls((missing, pair[1])))
        self.refused("http.tls: ", "missing: No such file", **self.tls((pair[0], missing)))
        self.refused("http.tls: expected both", http__tls__certificate=pair[0])
        self.refused("own.key: expected a certificate in PEM", **self.tls((pair[1], pair[1])))
        self.refused("own.pem: mode 0", **self.tls((pair[0], pair[0])))
        self.refused("garbage: expected a private key in PEM", **self.tls((pair[0], self.secret("garbage", "x" * 99))))
        self.refused("other.key: is not the key of the certificate in", "own.pem", **self.tls((pair[0], other[1])))
        pair[1].chmod(0o644)
        self.refused("own.key: mode 0644", "expected 0600", **self.tls(pair))
        pair[1].chmod(0o600)
        self.openssl("ec", "-in", pair[1], "-aes128", "-passout", "pass:secret", "-out", self.path("locked.key"))
        self.path("locked.key").chmod(0o600)
        self.refused(
            "locked.key: expected a private key in PEM, without a passphrase",
            **self.tls((pair[0], self.path("locked.key"))),
        )

    def test_a_certificate_out_of_its_time_ends_the_start(self):
        key = self.certificate("own")[1]
        self.openssl("req", "-new", "-key", key, "-subj", "/CN=localhost", "-out", "request")
        self.write("index", "")
        self.write("serial", "01\n")
        self.write("ca.conf", "[ca]\ndefault_ca=c\n[c]\nnew_certs_dir=.\ndatabase=index\nserial=serial\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")  # fmt: skip
        for name, begin, end, fragment in (
            ("expired", "20200101000000Z", "20210101000000Z", "expired.pem: the certificate expired on Jan  1 00:00:00 2021 GMT"),
            ("early", "20900101000000Z", "20910101000000Z", "early.pem: the certificate is valid from Jan  1 00:00:00 2090 GMT"),
        ):  # fmt: skip
            self.write("index", "")
            self.openssl(
                "ca", "-batch", "-config", "ca.conf", "-selfsign", "-keyfile", key, "-in", "request", "-out", f"{name}.pem",
                "-startdate", begin, "-enddate", end, "-notext",
            )  # fmt: skip
            self.refused(fragment, **self.tls((self.path(f"{name}.pem"), key)))

    def test_a_renewed_certificate_is_taken_while_it_runs(self):
        pair, renewed = self.certificate("own"), self.certificate("renewed")
        process = self.start(**self.tls(pair))
        trusts_new = self.trusting(renewed)
        with (
            self.connected(process) as plain,
            self.trusting(pair).wrap_socket(plain, server_hostname="localhost") as old,
        ):
            old.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(old.recv(4096).startswith(b"HTTP/1.1 200"))
            for before, after in zip(renewed, pair):
                shutil.copy(before, self.path("copy"))
                self.path("copy").chmod(0o600)
                self.path("copy").rename(after)
            self.wait_for_line(process, "loaded anew")
            self.assertEqual(self.status(process, "/healthz", context=trusts_new), 200)
            old.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")  # goes on
            self.assertTrue(old.recv(4096).startswith(b"HTTP/1.1 200"))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(TIMEOUT_S), 0)


if __name__ == "__main__":
    if shutil.which("openssl") is None:
        print("skipped: needs openssl (deploy/install-dependencies.sh test)")
        sys.exit(1 if os.environ.get("FRESHET_TEST_NO_SKIP") else 77)
    main()
