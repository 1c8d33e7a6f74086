#!/usr/bin/env bash
# Four proxies on one emulated stream of eight shards that take 1,000 records a second each, offered 95 % of that: how
# much is delivered, and how much is throttled on the way. Three kinds of keys: none, of 20,000 users alike, and of users
# of whom few are busy (Zipf, exponent 1), whose shard gets more than it takes; the last also with spread_hot_keys.
#
#   bench-harness/shards.sh [seconds (20)]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-20} bin=target/release rate=1900
run=$(mktemp -d)
started=()
end() {
  ((${#started[@]} == 0)) || kill -9 "${started[@]}" 2>/dev/null || true
  rm -rf "$run"
}
trap end EXIT

cargo build --release --locked --workspace --bins
export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=eu-west-1

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Sum of a counter over the proxies.
total() {
  local sum=0 admin value
  for admin in "${admins[@]}"; do
    value=$(curl -s "http://127.0.0.1:$admin/metrics" | sed -n "s/^$1 //p")
    sum=$((sum + ${value:-0}))
  done
  echo "$sum"
}

case_of() {
  local name=$1 settings=$2 stream i port admin generators=()
  shift 2
  admins=() started=()
  stream=$(free_port)
  "$bin/sluice-loadtest" kinesis --listen "127.0.0.1:$stream" --stream clicks --shards 8 --discard >"$run/stream" 2>&1 &
  started+=($!)
  for i in 1 2 3 4; do
    port=$(free_port) admin=$(free_port)
    admins+=("$admin")
    cat >"$run/$i.toml" <<END
[listen]
address = "127.0.0.1:$port"
workers = 1
pin = false
[admin]
address = "127.0.0.1:$admin"
[outputs.main]
type = "kinesis"
stream = "clicks"
endpoint_url = "http://127.0.0.1:$stream"
linger_ms = 20
$settings
END
    "$bin/sluice" run --config "$run/$i.toml" >"$run/$i.log" 2>&1 &
    started+=($!)
    until curl -sf "http://127.0.0.1:$admin/ready" >/dev/null; do sleep 0.1; done
    "$bin/sluice-loadtest" run --target "http://127.0.0.1:$port/v1/events" --mode event --event-bytes 400 \
      --connections 256 --rate "$rate" --duration "$seconds" --json "$run/$i.json" "$@" >/dev/null 2>&1 &
    generators+=($!)
  done
  wait "${generators[@]}"
  local answered delivered throttled refused
  answered=$(cat "$run"/[1-4].json | python3 -c '
import json, sys
text, at, good = sys.stdin.read().strip(), 0, 0
while at < len(text):
    report, at = json.JSONDecoder().raw_decode(text, at)
    good += report["statuses"].get("200", 0)
    while at < len(text) and text[at].isspace():
        at += 1
print(good)')
  delivered=$(total 'sluice_output_delivered_records_total{output="main"}')
  throttled=$(total 'sluice_output_retries_total{output="main",cause="throttled"}')
  refused=$(total 'sluice_output_shard_shed_total{output="main"}')
  if ((delivered < answered)); then
    echo "$name: $answered events were answered 200, and $delivered delivered" >&2
    exit 1
  fi
  local offered=$((4 * rate * seconds))
  printf '| %s | %d | %d (%d %%) | %d (%s %%) | %d |\n' "$name" "$offered" "$delivered" "$((100 * delivered / offered))" \
    "$throttled" "$(python3 -c "print(f'{100 * $throttled / max(1, $delivered):.2f}')")" "$refused"
  kill -9 "${started[@]}"
  wait "${started[@]}" 2>/dev/null || true
  started=()
}

printf '| keys | offered | delivered | throttled on the way | refused for a full shard |\n| --- | ---: | ---: | ---: | ---: |\n'
case_of 'none: spread by chance' 'partition_key = "random"' --users 20000
case_of '20,000 users alike' 'partition_key = "field:user_id"' --users 20000
case_of '20,000 users, few of them busy' 'partition_key = "field:user_id"' --users 20000 --zipf 1
case_of 'the same, `spread_hot_keys`' "$(printf 'partition_key = "field:user_id"\nspread_hot_keys = true')" --users 20000 --zipf 1
