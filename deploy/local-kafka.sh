#!/usr/bin/env bash
# One real Apache Kafka broker on this machine, for tests and for trying things out: no container, nothing but Java.
#
#   deploy/local-kafka.sh start [--directory DIR] [--port PORT]      start it and wait until it answers; a running one stays
#     [--advertise HOST:PORT]                                        tell clients this address: that of a proxy in front of it
#   deploy/local-kafka.sh stop [--directory DIR] [--now]             stop it and keep its data; --now: SIGKILL
#   deploy/local-kafka.sh fence [--directory DIR]                    after stop --now: make its end known, as a cluster would
#   deploy/local-kafka.sh status [--directory DIR]                   whether it runs, and where (exit code 3: it does not)
#   deploy/local-kafka.sh address [--directory DIR]                  its bootstrap server
#   deploy/local-kafka.sh create-topic NAME PARTITIONS [KEY=VALUE...] [--directory DIR]
#   deploy/local-kafka.sh describe [NAME] [--directory DIR]          topics and their partitions
#
# It listens on 127.0.0.1 only, on PORT (9092; 0: some free port) and PORT + 1. Data, log and settings are in DIR (build/kafka), and
# deleting DIR, once the broker is stopped, deletes everything but the jars. Those (46 MB) come from Maven, once, into
# ${XDG_CACHE_HOME:-~/.cache}/freshet/. No replication, no authentication.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kafka_version=4.3.1
jars=${XDG_CACHE_HOME:-$HOME/.cache}/freshet/kafka-$kafka_version

usage() { sed -n '2,15s/^# \{0,1\}//p' "$0"; }

fail() {
  echo "deploy/local-kafka.sh: $*" >&2
  exit 1
}

need() {  # command, package of Debian 12, package of Debian 13
  command -v "$1" >/dev/null || fail "$1 is missing: deploy/install-dependencies.sh test, or apt-get install $2 (Debian 13: $3)"
}

write_pom() {  # file
  cat >"$1" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>freshet</groupId>
  <artifactId>local-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$kafka_version</version></dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$kafka_version</version>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
POM
}

fetch_jars() {
  if [[ -d $jars ]]; then return; fi
  need mvn maven maven
  local work
  mkdir -p "$(dirname "$jars")"
  work=$(mktemp -d "$jars.XXXXXX")
  write_pom "$work/pom.xml"
  echo "Fetching Apache Kafka $kafka_version with Maven" >&2
  if ! mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/jars" >&2; then
    rm -rf "$work"
    fail "Maven could not fetch Apache Kafka $kafka_version"
  fi
  # Somebody else may have been faster.
  mv -T "$work/jars" "$jars" 2>/dev/null || [[ -d $jars ]] || fail "cannot write $jars"
  rm -rf "$work"
}

kafka_java() {  # class, arguments...
  java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$jars/*" "$@"
}

running_pid() {  # prints the broker's pid; fails where it does not run
  local pid
  pid=$(cat "$directory/pid" 2>/dev/null) || return 1
  # A pid may have gone to another process since.
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "kafka.Kafka $directory/server.properties" || return 1
  echo "$pid"
}

is_free() {  # port
  ! (exec 8<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

choose_port() {
  local port try
  for try in {1..50}; do
    port=$((20000 + (RANDOM % 6000) * 2))
    if is_free "$port" && is_free $((port + 1)); then
      echo "$port"
      return
    fi
  done
  fail "no free port found in $try tries"
}

write_properties() {  # port
  cat >"$directory/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$(($1 + 1))
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$1,CONTROLLER://127.0.0.1:$(($1 + 1))
advertised.listeners=PLAINTEXT://${advertise:-127.0.0.1:$1}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$directory/data
auto.create.topics.enable=false
# Events keep their own times, which may be old: retention by time would delete them at once.
log.retention.hours=-1
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
  echo "127.0.0.1:$1" >"$directory/address"
}

answers() {
  kcat -L -b "$(cat "$directory/address")" -m 2 2>/dev/null | grep -q 'broker 1 at'
}

start() {
  local pid uuid
  need java openjdk-17-jre-headless openjdk-21-jre-headless
  need kcat kcat kcat
  mkdir -p "$directory"
  exec 9>"$directory/lock"
  flock 9
  if pid=$(running_pid) && answers; then
    echo "Apache Kafka runs at $(cat "$directory/address") (pid $pid)"
    return
  fi
  fetch_jars
  if [[ $port == 0 ]]; then port=$(choose_port); fi
  if [[ -n $port || ! -e $directory/address ]]; then write_properties "${port:-9092}"; fi
  if [[ ! -e $directory/data/meta.properties ]]; then
    uuid=$(kafka_java kafka.tools.StorageTool random-uuid)
    kafka_java kafka.tools.StorageTool format -t "$uuid" -c "$directory/server.properties" >"$directory/format.log" 2>&1 ||
      fail "formatting failed: $(tail -n 3 "$directory/format.log")"
  fi
  port=$(sed 's/.*://' "$directory/address")
  if ! is_free "$port" || ! is_free $((port + 1)); then fail "port $port or $((port + 1)) is taken; use --port"; fi
  # A session of its own: it outlives the terminal, and no signal meant for the caller reaches it.
  setsid java -Xms64m -Xmx384m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.showDateTime=true -cp "$jars/*" kafka.Kafka \
    "$directory/server.properties" >>"$directory/broker.log" 2>&1 </dev/null 9>&- &
  echo $! >"$directory/pid"
  for _ in {1..720}; do  # a busy machine takes its time
    if answers; then
      echo "Apache Kafka $kafka_version runs at $(cat "$directory/address") (pid $(cat "$directory/pid"), data in $directory)"
      return
    fi
    sleep 0.25
    running_pid >/dev/null || fail "the broker ended: $(tail -n 5 "$directory/broker.log")"
  done
  fail "the broker does not answer after three minutes; see $directory/broker.log"
}

stop() {
  local pid
  if ! pid=$(running_pid); then
    echo "Apache Kafka does not run in $directory"
    return
  fi
  kill "$([[ $now == yes ]] && echo -KILL || echo -TERM)" "$pid"
  for _ in {1..300}; do
    if ! running_pid >/dev/null; then
      rm -f "$directory/pid"
      echo "Apache Kafka stopped"
      return
    fi
    sleep 0.1
  done
  fail "the broker (pid $pid) does not stop; see $directory/broker.log"
}

# A broker that comes back before its end was noticed takes itself for the leader of everything, until it is told otherwise; transaction
# markers that are due then, 4.3.1 leaves out ("these partitions are likely deleted already"). In a cluster the controllers outlive it.
fence() {
  local pid
  if running_pid >/dev/null; then fail "the broker runs"; fi
  # shellcheck disable=SC2016  # $a is sed's: behind the last line
  sed -e 's/^process.roles=.*/process.roles=controller/' -e 's/^listeners=.*,/listeners=/' -e '/^advertised/d' \
    -e '$abroker.session.timeout.ms=1000\ncontroller.quorum.append.linger.ms=0' \
    "$directory/server.properties" >"$directory/controller.properties"
  : >"$directory/controller.log"  # what the last one said must not be taken for this one's words
  java -Xmx256m -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.showDateTime=true -cp "$jars/*" kafka.Kafka \
    "$directory/controller.properties" >>"$directory/controller.log" 2>&1 </dev/null &
  pid=$!
  for _ in {1..720}; do
    if grep -q "Fencing broker 1" "$directory/controller.log" || ! kill -0 "$pid" 2>/dev/null; then break; fi
    sleep 0.25
  done
  sleep 1  # it says so before it is in its log of metadata, and what is not there is forgotten
  kill "$pid" 2>/dev/null || fail "the controller ended: $(tail -n 5 "$directory/controller.log")"
  wait "$pid" || true
  grep -q "Fencing broker 1" "$directory/controller.log" || fail "the broker is not fenced; see $directory/controller.log"
}

status() {
  local pid
  if ! pid=$(running_pid); then
    echo "Apache Kafka does not run in $directory"
    exit 3
  fi
  echo "Apache Kafka runs at $(cat "$directory/address") (pid $pid)"
}

topic_command() {
  running_pid >/dev/null || fail "the broker does not run; deploy/local-kafka.sh start"
  kafka_java org.apache.kafka.tools.TopicCommand --bootstrap-server "$(cat "$directory/address")" "$@"
}

create_topic() {  # name, partitions, settings...
  local setting settings=()
  if [[ $# -lt 2 ]]; then fail "create-topic NAME PARTITIONS [KEY=VALUE...]"; fi
  for setting in "${@:3}"; do settings+=(--config "$setting"); done
  topic_command --create --if-not-exists --topic "$1" --partitions "$2" "${settings[@]}"
}

directory=$root/build/kafka
port=
advertise=
now=no
words=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --directory) directory=${2:?"--directory needs a directory"}; shift ;;
    --port) port=${2:?"--port needs a port"}; shift ;;
    --advertise) advertise=${2:?"--advertise needs an address"}; shift ;;
    --now) now=yes ;;
    -h | --help) usage; exit ;;
    -*) fail "unknown option $1; see --help" ;;
    *) words+=("$1") ;;
  esac
  shift
done
directory=$(realpath -m "$directory")

case ${words[0]:-} in
  start) start ;;
  stop) stop ;;
  fence) fence ;;
  status) status ;;
  address) cat "$directory/address" ;;
  create-topic) create_topic "${words[@]:1}" ;;
  describe) topic_command --describe ${words[1]:+--topic "${words[1]}"} ;;
  *) usage >&2; exit 2 ;;
esac
