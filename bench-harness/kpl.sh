#!/usr/bin/env bash
# What shards.sh does with four proxies, done with four producers of the Kinesis Producer Library, version 0.15.12 from
# Maven Central: the same emulated stream of eight shards that take 1,000 records a second each, offered 95 % of that.
# With aggregation, its default, a record on the stream holds many events; without, one, as Sluice writes them.
# Needs Maven, a JDK and OpenSSL.
#
#   bench-harness/kpl.sh [seconds (20)]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-20} bin=target/release tools=target/kpl rate=1900
run=$(mktemp -d)
started=()
end() {
  ((${#started[@]} == 0)) || kill -9 "${started[@]}" 2>/dev/null || true
  rm -rf "$run"
}
trap end EXIT

cargo build --release --locked --workspace --bins
mkdir -p "$tools"
if [[ ! -e "$tools/complete" ]]; then
  mvn --quiet --batch-mode --file bench-harness/kpl/pom.xml \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies -DoutputDirectory="$PWD/$tools/jars" >&2
  touch "$tools/complete"
fi
javac -cp "$tools/jars/*" -d "$tools/classes" bench-harness/kpl/Kpl.java
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -keyout "$run/key.pem" -out "$run/crt.pem" 2>/dev/null
python3 bench-harness/kpl/sts.py "$run/crt.pem" "$run/key.pem" >"$run/sts" &
started+=($!)
until [[ -s "$run/sts" ]]; do sleep 0.1; done

case_of() {
  local name=$1 keys=$2 aggregates=$3 secured row
  "$bin/sluice-loadtest" kinesis --listen 127.0.0.1:0 --tls-listen 127.0.0.1:0 --shards 8 --discard >"$run/kinesis.log" 2>&1 &
  local kinesis=$!
  started+=("$kinesis")
  for _ in {1..100}; do
    secured=$(grep -i tls "$run/kinesis.log" | grep -o '127[.:0-9]*' | head -n 1 | cut -d: -f2) && [[ -n "$secured" ]] && break
    sleep 0.1
  done
  if ! row=$(java -cp "$tools/classes:$tools/jars/*" Kpl "$secured" "$(cat "$run/sts")" "$seconds" "$rate" "$keys" \
    "$aggregates" "$run" 2>"$run/kpl.log"); then
    tail -n 5 "$run/kpl.log" >&2
    exit 1
  fi
  printf '| %s | %s | %s |\n' "$name" "$aggregates" "$row"
  kill "$kinesis"
}

printf '| keys | aggregation | offered | delivered | of them while more was offered | given up | throttled on the way |\n'
printf '| --- | --- | ---: | ---: | ---: | ---: | ---: |\n'
for aggregates in true false; do
  case_of 'none: spread by chance' random "$aggregates"
  case_of '20,000 users alike' users "$aggregates"
  case_of '20,000 users, few of them busy' zipf "$aggregates"
done
