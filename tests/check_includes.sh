#!/bin/sh
# The star of docs/architecture.md: ingest, features, state and inference include core and themselves, core only itself;
# librdkafka, RocksDB, oneDNN, Highway, Boost and OpenSSL appear in .cc files (and ...-inl.h) of the folder that owns them. Prints each line against it.
set -u
cd "${1:-.}" || exit 1
bad=0
report() {
  if [ -n "$2" ]; then
    printf '%s\n%s\n' "$1" "$2"
    bad=1
  fi
}
allow() { # folder, allowed folders as a regular expression
  found=$(grep -rnE '#include "' --include='*.h' --include='*.cc' "$1" | grep -vE "#include \"($2)/")
  report "$1/ may include only: $2" "$found"
}
allow core 'core'
allow ingest 'core|ingest'
allow features 'core|features'
allow state 'core|state'
allow inference 'core|inference'
allow pipeline 'core|ingest|features|state|inference|pipeline'
own() { # header prefix, files that may include it
  found=$(grep -rnE "#include [<\"]$1" --include='*.h' --include='*.cc' core ingest features state inference pipeline | grep -vE "^$2:")
  report "<$1…> belongs in $2 only" "$found"
}
own 'librdkafka/' 'ingest/kafka[a-z_]*\.cc'
own 'rocksdb/' 'state/[a-z_]+\.cc'
own '(oneapi/|dnnl)' 'inference/[a-z_]+\.cc'
own 'hwy/' 'inference/([a-z_]+\.cc|kernels-inl\.h)'
own 'boost/(asio|beast)' 'pipeline/http/[a-z_]+(\.cc|-inl\.h)'
own 'openssl/' '(ingest/kafka_common\.cc|pipeline/http/[a-z_]+(\.cc|-inl\.h))'
exit $bad
