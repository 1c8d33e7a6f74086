#!/usr/bin/env python3
"""How fast the spool takes records while the destination is away, how fast it replays them, and what live traffic
notices of that. Counts come before figures: the exit code is 1 when a request was not answered 200, or when the
emulator does not store every record of the spool.

    bench-harness/spool.py [--rate 60000] [--seconds 10] [--rounds 3] [--dir target/spool-bench] [--bin target/release]

Generator, Sluice and emulator share the machine. `--dir` should be on a disk: on memory an fsync costs nothing.
"""

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

OPTIONS = argparse.ArgumentParser(description=__doc__.split(".")[0])
OPTIONS.add_argument("--rate", type=int, default=60_000, help="requests per second while the destination is away")
OPTIONS.add_argument("--seconds", type=int, default=10, help="of each run")
OPTIONS.add_argument("--rounds", type=int, default=3)
OPTIONS.add_argument("--live-rate", type=int, default=5_000, help="requests per second beside the replay")
OPTIONS.add_argument("--dir", default="target/spool-bench", help="the spool's directory; removed first")
OPTIONS.add_argument("--bin", default="target/release")
OPTIONS.add_argument("--connections", type=int, default=1_000)
OPTIONS.add_argument("--spool", default="", help="more lines of the spool's settings")

ENV = dict(
    os.environ,
    AWS_ACCESS_KEY_ID="bench",
    AWS_SECRET_ACCESS_KEY="bench",
    AWS_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
)
started = []


def spawn(name, *arguments):
    log = open(os.path.join(options.dir, f"{name}.log"), "ab")
    process = subprocess.Popen(arguments, stdout=log, stderr=log, env=ENV)
    started.append(process)
    return process


def kill(process):
    process.kill()
    process.wait()
    started.remove(process)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def await_url(url):
    for _ in range(600):
        try:
            return get(url)
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nobody answers at {url}")


def metric(name):
    found = re.search(rf'^{name}{{output="main"}} (\S+)$', get(f"http://127.0.0.1:{admin}/metrics"), re.M)
    return int(float(found.group(1))) if found else 0


def cpu_seconds(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_sluice():
    process = spawn("sluice", f"{options.bin}/sluice", "run", "--config", config)
    await_url(f"http://127.0.0.1:{port}/health")
    return process


def start_stream():
    arguments = ["--listen", f"127.0.0.1:{stream}", "--no-shard-limits", "--discard"]
    process = spawn("kinesis", f"{options.bin}/sluice-loadtest", "kinesis", *arguments)
    await_url(f"http://127.0.0.1:{stream}/_stats")
    return process


def stored():
    return json.loads(get(f"http://127.0.0.1:{stream}/_stats"))["stored"]


def load(*schedule):
    """A run of the generator, of which every request has to be answered 200."""
    out = os.path.join(options.dir, "load.json")
    target = f"http://127.0.0.1:{port}/v1/events"
    arguments = ["--target", target, "--mode", "event", "--event-bytes", "1024", "--json", out]
    arguments += ["--connections", str(options.connections), "--duration", str(options.seconds), *schedule]
    with open(os.path.join(options.dir, "load.log"), "ab") as log:
        subprocess.run([f"{options.bin}/sluice-loadtest", "run", *arguments], check=False, stdout=log, stderr=log)
    with open(out, encoding="utf-8") as file:
        report = json.load(file)
    statuses = report["statuses"]
    if set(statuses) != {"200"} or report["answered"] != report["sent"]:
        sys.exit(f"of {report['sent']} requests not every one was answered 200: {statuses}")
    return report


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def away(name, *schedule):
    """Requests that the spool has to take. Leaves its records on the disk, and says how many."""
    before = metric("sluice_spool_records_total")
    cpu = cpu_seconds(sluice)
    report = load(*schedule)
    cpu = cpu_seconds(sluice) - cpu
    answered = report["statuses"]["200"]
    spooled = metric("sluice_spool_records_total") - before
    if spooled != answered:
        sys.exit(f"{answered} requests were answered 200, and {spooled} records are in the spool")
    # A closed loop has no schedule.
    latency = report["latency_from_intended_start"] or report["latency_from_start"]
    generator = report["generator"]["cpu_us_per_request"]
    row(name, f"{report['answered_per_second']:,.0f}", f"{cpu * 1e6 / answered:.1f}", f"{generator:.1f}",
        *(f"{latency[q] / 1000:.1f}" for q in ("p50_us", "p99_us", "max_us")))
    return spooled


def replay(waiting):
    """A start with a full spool, until the stream has it all."""
    global sluice
    kill(sluice)
    emulator = start_stream()
    began = time.monotonic()
    sluice = start_sluice()
    cpu = cpu_seconds(sluice)
    while metric("sluice_spool_replayed_records_total") < waiting:
        time.sleep(0.02)
        if time.monotonic() > began + 300:
            sys.exit("the replay takes longer than 300 s")
    took = time.monotonic() - began
    cpu = cpu_seconds(sluice) - cpu
    if stored() != waiting:
        sys.exit(f"{waiting} records waited, and {stored()} are stored")
    row(f"{waiting:,}", f"{took:.2f}", f"{waiting / took:,.0f}", f"{cpu * 1e6 / waiting:.2f}")
    kill(emulator)


def fill(records):
    """A spool with at least this many records."""
    waiting = metric("sluice_spool_waiting_records")
    while waiting < records:
        load("--closed")
        waiting = metric("sluice_spool_waiting_records")


def beside(records):
    """Live traffic without and with replay beside it."""
    global sluice
    emulator = start_stream()
    schedule = ("--rate", str(options.live_rate))
    time.sleep(2)
    alone = load(*schedule)["latency_from_intended_start"]
    kill(emulator)
    time.sleep(1)
    fill(records)
    waiting = metric("sluice_spool_waiting_records")
    emulator = start_stream()
    began = time.monotonic()
    report = load(*schedule)
    replayed = waiting - metric("sluice_spool_waiting_records")
    with_replay = report["latency_from_intended_start"]
    took = time.monotonic() - began
    row(*(f"{one[q] / 1000:.2f}" for q in ("p50_us", "p99_us", "p99_9_us") for one in (alone, with_replay)),
        f"{replayed / took:,.0f}", "yes" if metric("sluice_spool_waiting_records") else "no")
    while metric("sluice_spool_waiting_records"):
        time.sleep(0.1)
    kill(emulator)
    return alone["p99_us"], with_replay["p99_us"]


def main():
    global sluice
    sluice = start_sluice()
    print(f"Destination away, 1 KiB events, {options.connections} connections, {options.seconds} s each:\n")
    row("load", "acknowledged/s", "CPU us/request", "generator's", "p50 ms", "p99 ms", "max ms")
    row("---", *["---:"] * 6)
    waiting = 0
    for _ in range(options.rounds):
        waiting = away(f"{options.rate:,}/s", "--rate", str(options.rate)) + away("closed loop", "--closed")
        emulator = start_stream()
        while metric("sluice_spool_waiting_records"):
            time.sleep(0.1)
        kill(emulator)
        time.sleep(2)
    print("\nReplay without traffic:\n")
    row("records", "seconds", "records/s", "CPU us/record")
    row("---:", "---:", "---:", "---:")
    for _ in range(options.rounds):
        fill(waiting // 2)
        replay(metric("sluice_spool_waiting_records"))
        time.sleep(2)
    print(f"\nLive traffic of {options.live_rate:,}/s, without and with replay beside it, ms:\n")
    row("p50", "with", "p99", "with", "p99.9", "with", "replayed/s", "to the end")
    row(*["---:"] * 8)
    pairs = [beside(waiting) for _ in range(options.rounds)]
    ratio = statistics.median(with_replay / alone for alone, with_replay in pairs)
    print(f"\np99 with replay / without, median of rounds: {ratio:.2f}")


options = OPTIONS.parse_args()
shutil.rmtree(options.dir, ignore_errors=True)
os.makedirs(options.dir)
port, admin, stream = free_ports(3)
config = os.path.join(options.dir, "sluice.toml")
with open(config, "w", encoding="utf-8") as file:
    file.write(f"""[listen]
address = "127.0.0.1:{port}"
connections_per_address_max = 0
[admin]
address = "127.0.0.1:{admin}"
[outputs.main]
type = "kinesis"
stream = "clicks"
endpoint_url = "http://127.0.0.1:{stream}"
[outputs.main.spool]
dir = {json.dumps(os.path.abspath(os.path.join(options.dir, "spool")))}
bytes_max = 20_000_000_000
{options.spool}
""")
try:
    main()
finally:
    for process in list(started):
        kill(process)
