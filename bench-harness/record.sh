#!/usr/bin/env bash
# A new record, and the documentation's figures from it: all servers under all workloads, then the latency of some of them
# under rising load. Leave the machine alone meanwhile (about 25 minutes on 2 cores).
#
#   bench-harness/record.sh NAME [rounds (3)] [seconds (3)]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name=${1:?the name of the record, for instance 2026-11-21-xeon-2-cores} rounds=${2:-3} seconds=${3:-3}

cargo build --release --locked --workspace --bins
bench=target/release/sluice-bench
"$bench" peers --install --rounds "$rounds" --seconds "$seconds" --out "bench-harness/record/$name"
"$bench" peers --install --rounds "$rounds" --seconds "$seconds" --out "bench-harness/record/$name-load" \
  --workloads bench-harness/load --peer nginx-204 --peer sluice-null-linger --peer sluice-kinesis --peer nginx-proxy --peer benthos
"$bench" figures --publish "$name"
