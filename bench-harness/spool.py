#!/usr/bin/env python3
"""What a spool costs that is not used, what a 503 costs without one, how fast the spool takes records while the
destination is away, how fast it replays them, and what live traffic notices of that. Counts come before figures: the
exit code is 1 when a request has another status than it should, when an unused spool has a byte, or when the emulator
does not store every record of the spool.

    bench-harness/spool.py [--only unused,refused,away,replay,beside] [--rate 60000] [--seconds 10]
                           [--rounds 3] [--dir target/spool-bench] [--bin target/release]

Generator, Sluice and emulator share the machine. `--dir` should be on a disk: on memory an fsync costs nothing.
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time

from local_servers import ENV, await_url, free_ports, get

OPTIONS = argparse.ArgumentParser(description=__doc__.split(".")[0])
OPTIONS.add_argument("--only", default="unused,refused,away,replay,beside", help="parts, all of them by default")
OPTIONS.add_argument("--pairs", type=int, default=60, help="runs with and without an unused spool, a second each")
OPTIONS.add_argument("--rate", type=int, default=60_000, help="requests per second while the destination is away")
OPTIONS.add_argument("--seconds", type=int, default=10, help="of each run")
OPTIONS.add_argument("--rounds", type=int, default=3)
OPTIONS.add_argument("--records", type=int, default=600_000, help="in the spool before a replay, at least")
OPTIONS.add_argument("--live-rate", type=int, default=5_000, help="requests per second beside the replay")
OPTIONS.add_argument("--dir", default="target/spool-bench", help="the spool's directory; removed first")
OPTIONS.add_argument("--bin", default="target/release")
OPTIONS.add_argument("--connections", type=int, default=1_000)
OPTIONS.add_argument("--paces", default="1000,10000,off", help="replay_records_per_s of the rounds beside live traffic")

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


def metric(name):
    found = re.search(rf'^{name}{{output="main"}} (\S+)$', get(f"http://127.0.0.1:{admin}/metrics"), re.M)
    return int(float(found.group(1))) if found else 0


def cpu_seconds(process):
    """CPU time of all its threads, which are there from its start to its end."""
    tasks = f"/proc/{process.pid}/task"
    total = 0
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/schedstat", encoding="ascii") as stat:
            total += int(stat.read().split()[0])
    return total / 1e9


def configure(name, port, admin, spool):
    config = os.path.join(options.dir, f"{name}.toml")
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
{spool}
""")
    return config


def spool(pace):
    """The settings of the spool, whose replay knows no other bound."""
    return f"""[outputs.main.spool]
dir = {json.dumps(os.path.abspath(os.path.join(options.dir, "spool")))}
bytes_max = 20_000_000_000
replay_percent = "off"
replay_records_per_s = {pace if pace.isdecimal() else json.dumps(pace)}
"""


def start_sluice():
    process = spawn("sluice", f"{options.bin}/sluice", "run", "--config", config)
    await_url(f"http://127.0.0.1:{port}/health")
    # The port of metrics may open a moment later.
    await_url(f"http://127.0.0.1:{admin}/live")
    return process


def unused():
    """CPU per request of two servers in turns, one of them with a spool that nothing goes to."""
    emulator = start_stream()
    other_port, other_admin = free_ports(2)
    without = configure("without", other_port, other_admin, "")
    servers = []
    for settings, at in ((without, other_port), (config, port)):
        servers.append((spawn("sluice", f"{options.bin}/sluice", "run", "--config", settings), at))
        await_url(f"http://127.0.0.1:{at}/health")
    pairs = []
    for turn in range(options.pairs):
        costs = [0, 0]
        # Neither is always the first.
        for which in (0, 1) if turn % 2 else (1, 0):
            process, at = servers[which]
            before = cpu_seconds(process)
            answered = load("--rate", "20000", to=at, seconds=1)["statuses"]["200"]
            costs[which] = (cpu_seconds(process) - before) * 1e6 / answered
        pairs.append(costs)
    if metric("sluice_spool_bytes_total") or os.listdir(os.path.join(options.dir, "spool")):
        sys.exit("the spool was used")
    ratios = [with_spool / without for without, with_spool in pairs]
    medians = (statistics.median(random.choices(ratios, k=len(ratios))) for _ in range(10_000))
    low, high = statistics.quantiles(medians, n=40)[:: 38]
    print("CPU us/request at 20,000/s of 1 KiB, in turns:\n")
    row("pairs", "without", "with an unused spool", "ratio", "95 % of it", "bytes written")
    row(*["---:"] * 6)
    row(len(pairs), *(f"{statistics.median(one):.2f}" for one in zip(*pairs)), f"{statistics.median(ratios):.3f}",
        f"{low:.3f} to {high:.3f}", 0)
    for process, _ in servers:
        kill(process)
    kill(emulator)


def start_stream():
    arguments = ["--listen", f"127.0.0.1:{stream}", "--no-shard-limits", "--discard"]
    process = spawn("kinesis", f"{options.bin}/sluice-loadtest", "kinesis", *arguments)
    await_url(f"http://127.0.0.1:{stream}/_stats")
    return process


def stored():
    return json.loads(get(f"http://127.0.0.1:{stream}/_stats"))["stored"]


def load(*schedule, to=None, seconds=None, connections=None, status="200"):
    """A run of the generator, of which every request has to be answered with this status."""
    out = os.path.join(options.dir, "load.json")
    target = f"http://127.0.0.1:{to or port}/v1/events"
    arguments = ["--target", target, "--mode", "event", "--event-bytes", "1024", "--json", out]
    arguments += ["--connections", str(connections or options.connections), "--duration", str(seconds or options.seconds), *schedule]
    with open(os.path.join(options.dir, "load.log"), "ab") as log:
        subprocess.run([f"{options.bin}/sluice-loadtest", "run", *arguments], check=False, stdout=log, stderr=log)
    with open(out, encoding="utf-8") as file:
        report = json.load(file)
    statuses = report["statuses"]
    if set(statuses) != {status} or report["answered"] != report["sent"]:
        sys.exit(f"of {report['sent']} requests not every one was answered {status}: {statuses}")
    return report


def refused():
    """What a 503 costs without a spool, while the circuit is open."""
    emulator = start_stream()
    process = spawn("sluice", f"{options.bin}/sluice", "run", "--config", configure("refused", port, admin, ""))
    await_url(f"http://127.0.0.1:{port}/health")
    print("\nWithout a spool, closed loop:\n")
    row("destination", "answer", "answers/s", "CPU us/request")
    row("---", "---:", "---:", "---:")
    for name, status in (("there", "200"), ("away", "503")):
        if status == "503":
            kill(emulator)
            # Until the circuit is open.
            load("--rate", "1000", seconds=3, status=status)
        cpu = cpu_seconds(process)
        report = load("--closed", status=status)
        cpu = cpu_seconds(process) - cpu
        row(name, status, f"{report['answered_per_second']:,.0f}", f"{cpu * 1e6 / report['answered']:.1f}")
    kill(process)


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def away(name, *schedule):
    """Requests that the spool has to take. Leaves its records on the disk, and says how many."""
    # Calls have to fail before records go to the disk on arrival.
    load("--rate", "1000", seconds=2)
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


def beside(pace):
    """Live traffic without and with replay beside it, at this pace."""
    global sluice
    kill(sluice)
    configure("sluice", port, admin, spool(pace))
    sluice = start_sluice()
    fill(options.records)
    schedule = ("--rate", str(options.live_rate))
    emulator = start_stream()
    # Until calls succeed again.
    while not metric("sluice_spool_replayed_records_total"):
        time.sleep(0.05)
    waiting, began = metric("sluice_spool_waiting_records"), time.monotonic()
    with_replay = load(*schedule, connections=64)["latency_from_intended_start"]
    left, took = metric("sluice_spool_waiting_records"), time.monotonic() - began
    kill(sluice)
    shutil.rmtree(os.path.join(options.dir, "spool"))
    sluice = start_sluice()
    alone = load(*schedule, connections=64)["latency_from_intended_start"]
    kill(emulator)
    row(f"{pace}", f"{(waiting - left) / took:,.0f}", "yes" if left else "no",
        *(f"{one[q] / 1000:.2f}" for q in ("p50_us", "p99_us", "p99_9_us") for one in (alone, with_replay)))
    return with_replay["p99_us"] / alone["p99_us"]


def drain():
    """Empties the spool."""
    emulator = start_stream()
    while metric("sluice_spool_waiting_records"):
        time.sleep(0.1)
    kill(emulator)
    time.sleep(2)


def main():
    global sluice
    parts = options.only.split(",")
    if "unused" in parts:
        unused()
    if "refused" in parts:
        refused()
    if not {"away", "replay", "beside"} & set(parts):
        return
    sluice = start_sluice()
    if "away" in parts:
        print(f"\nDestination away, 1 KiB events, {options.connections} connections, {options.seconds} s each:\n")
        row("load", "acknowledged/s", "CPU us/request", "generator's", "p50 ms", "p99 ms", "max ms")
        row("---", *["---:"] * 6)
        for _ in range(options.rounds):
            for schedule in (("--rate", str(options.rate)), ("--closed",)):
                away(f"{options.rate:,}/s" if "--rate" in schedule else "closed loop", *schedule)
                drain()
    if "replay" in parts:
        print("\nReplay without traffic:\n")
        row("records", "seconds", "records/s", "CPU us/record")
        row(*["---:"] * 4)
        for _ in range(options.rounds):
            fill(options.records)
            replay(metric("sluice_spool_waiting_records"))
            time.sleep(2)
    if "beside" in parts:
        print(f"\nLive traffic of {options.live_rate:,}/s, without and with replay beside it, ms:\n")
        row("replay_records_per_s", "replayed/s", "to the end", "p50", "with", "p99", "with", "p99.9", "with")
        row(*["---:"] * 9)
        for pace in options.paces.split(","):
            ratios = [beside(pace) for _ in range(options.rounds)]
            print(f"p99 with replay / without at {pace}, median: {statistics.median(ratios):.2f}", file=sys.stderr)


options = OPTIONS.parse_args()
shutil.rmtree(options.dir, ignore_errors=True)
os.makedirs(options.dir)
port, admin, stream = free_ports(3)
config = configure("sluice", port, admin, spool("off"))
try:
    main()
finally:
    for process in list(started):
        kill(process)
