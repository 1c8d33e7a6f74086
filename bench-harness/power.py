#!/usr/bin/env python3
"""Cuts the power of Sluice's disk again and again under load, and counts what was answered 200 and is not there after a
start on what the disk then held. The exit code is 1 if that is a single event. Needs root, loop devices and XFS.

    bench-harness/power.py [--cuts 60] [--seed 1] [--only file,s3,spool] [--bin target/release]

Sluice writes to an ext4 file system on a loop device. A cut clones the device's file in one step (a reflink on XFS),
without a sync: it holds what the file system has sent to its disk, and nothing of the page cache above. What was
answered before the clone began has to be in it. A disk that loses writes which it has confirmed, or reorders those
between two flushes, is not played.
"""

import argparse
import base64
import gzip
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request

from local_servers import ENV, await_url, free_ports

OPTIONS = argparse.ArgumentParser(description=__doc__.split(".")[0])
OPTIONS.add_argument("--cuts", type=int, default=60, help="of all outputs together")
OPTIONS.add_argument("--seed", type=int, default=1)
OPTIONS.add_argument("--only", default="file,s3,spool")
OPTIONS.add_argument("--clients", type=int, default=8)
OPTIONS.add_argument("--bin", default="target/release")
OPTIONS.add_argument("--dir", default="target/power", help="removed first, and kept after a failure")

ID = re.compile(rb'"id":"(p\d+)"')


def shell(*arguments):
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.strip()


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, image, at):
        os.makedirs(at, exist_ok=True)
        self.at = at
        self.device = shell("losetup", "--find", "--show", image)
        mounted.append(self)
        # Often enough that a cut meets its journal's commits too.
        shell("mount", "-o", "commit=1", self.device, at)

    def remove(self):
        subprocess.run(["umount", "--lazy", self.at], check=False, capture_output=True)
        subprocess.run(["losetup", "--detach", self.device], check=False, capture_output=True)
        mounted.remove(self)


class Clients:
    """Send one event after the other, and remember what was answered 200."""

    def __init__(self, port):
        self.port = port
        self.acked = []
        self.over = False
        self.threads = [threading.Thread(target=self.send) for _ in range(options.clients)]
        for thread in self.threads:
            thread.start()

    def send(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self.over:
            with next_lock:
                name = f"p{next(numbers):09}"
            try:
                connection.request("POST", "/v1/events", f'{{"id":"{name}","pad":"{"x" * 300}"}}')
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(0.01)
                continue
            if answer.status == 200:
                self.acked.append(name)

    def end(self):
        self.over = True
        for thread in self.threads:
            thread.join()


def start(output, port, admin, far, data):
    """Sluice with its files below `data`."""
    settings = {
        "file": f'type = "file"\ndir = "{data}/stored"\nrotate_bytes = 200_000\n',
        "s3": f"""type = "s3"
bucket = "clicks"
endpoint_url = "http://127.0.0.1:{far}"
staging_dir = "{data}/staging"
object_age_s = 1
""",
        "spool": f"""type = "kinesis"
stream = "clicks"
endpoint_url = "http://127.0.0.1:{far}"
[outputs.main.spool]
dir = "{data}/spool"
after_ms = 100
replay_percent = "off"
""",
    }[output]
    config = os.path.join(options.dir, "sluice.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f"""[listen]
address = "127.0.0.1:{port}"
pin = false
[admin]
address = "127.0.0.1:{admin}"
[drain]
grace_ms = 0
deadline_ms = 60000
[outputs.main]
{settings}""")
    with open(os.path.join(options.dir, "sluice.log"), "ab") as log:
        process = subprocess.Popen([f"{options.bin}/sluice", "run", "--config", config], stdout=log, stderr=log, env=ENV)
    children.append(process)
    await_url(f"http://127.0.0.1:{port}/health")
    return process


def end(process, number):
    process.send_signal(number)
    code = process.wait(120)
    children.remove(process)
    return code


def destination(output, far):
    objects = os.path.join(options.dir, "objects")
    if output == "s3":
        shutil.rmtree(objects, ignore_errors=True)
        arguments = ["s3", "--bucket", "clicks", "--dir", objects]
    else:
        arguments = ["kinesis", "--no-shard-limits"]
    with open(os.path.join(options.dir, "destination.log"), "ab") as log:
        process = subprocess.Popen([f"{options.bin}/sluice-loadtest", *arguments, "--listen", f"127.0.0.1:{far}"],
                                   stdout=log, stderr=log)
    children.append(process)
    await_url(f"http://127.0.0.1:{far}/_stats")
    return process


def ids_in_files(directory):
    found = set()
    for at, _, files in os.walk(directory):
        for name in files:
            with open(os.path.join(at, name), "rb") as file:
                content = file.read()
            if content.startswith(b"\x1f\x8b"):
                content = gzip.decompress(content)
            # A cut line ends before its line break, and is no event.
            found.update(ID.findall(content))
    return {name.decode() for name in found}


def cut(output, chance, outer):
    """One cut: events answered before it, and those of them that are lost."""
    image, clone = os.path.join(outer, "disk"), os.path.join(outer, "clone")
    for path in (image, clone):
        if os.path.exists(path):
            os.remove(path)
    with open(image, "wb") as file:
        file.truncate(256 << 20)
    shell("mkfs.ext4", "-q", "-F", image)
    disk = Disk(image, os.path.join(options.dir, "before"))
    port, admin, far = free_ports(3)
    # Nobody listens at `far`: all that is answered 200 is on the disk, and nowhere else.
    sluice = start(output, port, admin, far, disk.at)
    clients = Clients(port)
    time.sleep(chance.uniform(0.2, 2.5))
    answered = list(clients.acked)
    shell("cp", "--reflink=always", image, clone)
    clients.end()
    end(sluice, signal.SIGKILL)
    disk.remove()

    disk = Disk(clone, os.path.join(options.dir, "after"))
    there = None
    if output != "file":
        there = destination(output, far)
    sluice = start(output, port, admin, far, disk.at)
    if output == "spool":
        config = os.path.join(options.dir, "sluice.toml")
        shell(f"{options.bin}/sluice", "spool", "wait", "--timeout-s", "60", "--config", config)
    code = end(sluice, signal.SIGTERM)
    if code:
        raise RuntimeError(f"{output}: exit code {code} after the start on the clone")
    if output == "file":
        stored = ids_in_files(os.path.join(disk.at, "stored"))
    elif output == "s3":
        stored = ids_in_files(os.path.join(options.dir, "objects"))
    else:
        stored = read_stream(far)
    if there:
        end(there, signal.SIGTERM)
    disk.remove()
    return len(answered), sorted(set(answered) - stored)


def read_stream(far):
    """The ids in the emulated stream, by its own reader's calls."""
    def call(operation, body):
        request = urllib.request.Request(f"http://127.0.0.1:{far}/", json.dumps(body).encode(), {
            "X-Amz-Target": f"Kinesis_20131202.{operation}", "Content-Type": "application/x-amz-json-1.1"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    found = set()
    for shard in call("ListShards", {"StreamName": "clicks"})["Shards"]:
        at = {"StreamName": "clicks", "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = call("GetShardIterator", at)["ShardIterator"]
        while iterator:
            read = call("GetRecords", {"ShardIterator": iterator})
            for record in read["Records"]:
                found.update(ID.findall(base64.b64decode(record["Data"])))
            if not read["Records"] and not read["MillisBehindLatest"]:
                break
            iterator = read.get("NextShardIterator")
    return {name.decode() for name in found}


def main():
    chance = random.Random(options.seed)
    outer_image = os.path.join(options.dir, "outer")
    with open(outer_image, "wb") as file:
        file.truncate(2 << 30)
    shell("mkfs.xfs", "-q", "-m", "reflink=1", outer_image)
    outer = os.path.join(options.dir, "xfs")
    os.makedirs(outer)
    shell("mount", "-o", "loop", outer_image, outer)
    names = options.only.split(",")
    print("| output | power cuts | answered 200 before | of them not stored |\n| --- | ---: | ---: | ---: |")
    failed = False
    try:
        for at, name in enumerate(names):
            cuts = options.cuts // len(names) + (at < options.cuts % len(names))
            answered, lost = 0, []
            for _ in range(cuts):
                some, missing = cut(name, chance, outer)
                answered += some
                lost += missing
            print(f"| {name} | {cuts} | {answered:,} | {len(lost)} |", flush=True)
            if lost:
                failed = True
                print(f"lost: {lost[:10]}", file=sys.stderr)
    finally:
        for process in list(children):
            process.kill()
            process.wait()
        for disk in list(mounted):
            disk.remove()
        shell("umount", outer)
    print(f"\nseed {options.seed}")
    return failed


options = OPTIONS.parse_args()
shutil.rmtree(options.dir, ignore_errors=True)
os.makedirs(options.dir)
options.dir = os.path.abspath(options.dir)
children, mounted = [], []
numbers, next_lock = iter(range(1 << 60)), threading.Lock()
failed = main()
if not failed:
    shutil.rmtree(options.dir)
sys.exit(failed)
