#!/usr/bin/env python3
"""Kills Sluice again and again under load, and counts what was answered 200 and is not stored. The exit code is 1 if
that is a single event.

    bench-harness/kills.py [--kills 40] [--seed 1] [--only file,s3,kinesis,kafka] [--bin target/release]

Four servers, each with a destination of its own: files, S3, and a spool in front of Kinesis and of Kafka. Each gets
SIGKILL at random moments of its life, its start included, and is started again at once, while its destination goes
away and comes back (files stay). The kills are shared between the four. S3 and Kinesis are emulators, whose ledger is
the truth; Kafka is Apache Kafka, stopped and continued, read by its own console consumer.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request

from local_servers import ENV, answers, await_true, free_ports

OPTIONS = argparse.ArgumentParser(description=__doc__.split(".")[0])
OPTIONS.add_argument("--kills", type=int, default=40, help="of all servers together")
OPTIONS.add_argument("--seed", type=int, default=1)
OPTIONS.add_argument("--only", default="file,s3,kinesis,kafka")
OPTIONS.add_argument("--rate", type=int, default=400, help="events per second for each server")
OPTIONS.add_argument("--bin", default="target/release")
OPTIONS.add_argument("--dir", default="target/kills", help="removed first, and kept after a failure")
OPTIONS.add_argument("--kafka", default="target/interop", help="where Kafka is installed, or will be")

# A life is at most this long; the shortest ones end before the server listens.
LIFE_S = 1.5
AWAY_S = (0.3, 3.0)
BACK_S = (0.2, 2.0)


class Drill:
    """One server with its destination and its clients."""

    def __init__(self, name, kills):
        self.name = name
        self.kills = kills
        self.random = random.Random(f"{options.seed} {name}")
        self.dir = os.path.abspath(os.path.join(options.dir, name))
        os.makedirs(self.dir)
        self.port, self.admin, self.far = free_ports(3)
        self.children = []
        self.over = threading.Event()
        self.with_records = 0
        self.failure = None
        self.result = None

    def path(self, name):
        return os.path.join(self.dir, name)

    def spawn(self, name, *arguments):
        with open(self.path(f"{name}.log"), "ab") as log:
            process = subprocess.Popen(arguments, stdout=log, stderr=log, env=ENV)
        self.children.append(process)
        return process

    def end(self, process, number=signal.SIGTERM, seconds=120):
        process.send_signal(number)
        code = process.wait(seconds)
        self.children.remove(process)
        return code

    def start_destination(self):
        listen = f"127.0.0.1:{self.far}"
        loadtest = f"{options.bin}/sluice-loadtest"
        if self.name == "s3":
            self.destination = self.spawn("s3", loadtest, "s3", "--listen", listen, "--bucket", "clicks",
                                          "--memory-bytes-max", str(4 << 30), "--ledger", self.path("ledger"))
        elif self.name == "kinesis":
            self.destination = self.spawn("kinesis", loadtest, "kinesis", "--listen", listen, "--no-shard-limits",
                                          "--discard", "--ledger", self.path("ledger"))
        elif self.name == "kafka":
            self.start_kafka()
        if self.name in ("s3", "kinesis"):
            await_true("the emulator answers", lambda: answers(f"http://{listen}/_stats"))

    def java(self, class_name, *arguments, memory="256m"):
        return ["java", f"-Xmx{memory}", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info", "-cp", f"{kafka_jars}/*",
                class_name, *arguments]

    def start_kafka(self):
        (controller,) = free_ports(1)
        settings = self.path("server.properties")
        with open(settings, "w", encoding="utf-8") as file:
            file.write(f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{self.far},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.far}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={self.path("kafka-data")}
num.partitions=4
offsets.topic.replication.factor=1
auto.create.topics.enable=false
""")
        subprocess.run(self.java("kafka.tools.StorageTool", "format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAQ",
                                 "--config", settings), check=True, capture_output=True)
        self.destination = self.spawn("kafka", *self.java("kafka.Kafka", settings, memory="512m"))
        # It answers when it has made the topic.
        subprocess.run(self.java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server",
                                 f"127.0.0.1:{self.far}", "--create", "--topic", "clicks"),
                       check=True, capture_output=True, timeout=120)

    def configure(self):
        output = {
            "file": f'type = "file"\ndir = {json.dumps(self.path("stored"))}\nrotate_bytes = 1_000_000\n',
            "s3": f"""type = "s3"
bucket = "clicks"
endpoint_url = "http://127.0.0.1:{self.far}"
staging_dir = {json.dumps(self.path("staging"))}
object_age_s = 1
""",
            "kinesis": f"""type = "kinesis"
stream = "clicks"
endpoint_url = "http://127.0.0.1:{self.far}"
""",
            "kafka": f'type = "kafka"\nbrokers = ["127.0.0.1:{self.far}"]\ntopic = "clicks"\n',
        }[self.name]
        if self.name in ("kinesis", "kafka"):
            output += f"""[outputs.main.spool]
dir = {json.dumps(self.path("spool"))}
after_ms = 200
replay_percent = "off"
"""
        with open(self.path("sluice.toml"), "w", encoding="utf-8") as file:
            file.write(f"""[listen]
address = "127.0.0.1:{self.port}"
pin = false
[admin]
address = "127.0.0.1:{self.admin}"
[drain]
grace_ms = 0
deadline_ms = 60000
[outputs.main]
{output}""")

    def start_sluice(self):
        self.sluice = self.spawn("sluice", f"{options.bin}/sluice", "run", "--config", self.path("sluice.toml"))

    def go_away(self, seconds):
        """The destination is away for some time."""
        if self.name == "kafka":
            self.destination.send_signal(signal.SIGSTOP)
            self.over.wait(seconds)
            self.destination.send_signal(signal.SIGCONT)
        elif self.name in ("s3", "kinesis"):
            faults = json.dumps({"gone": True, "for_s": seconds}).encode()
            urllib.request.urlopen(f"http://127.0.0.1:{self.far}/_faults", faults, timeout=5).close()
            time.sleep(seconds + 0.1)

    def outages(self):
        chance = random.Random(f"{options.seed} {self.name} outages")
        while not self.over.wait(chance.uniform(*BACK_S)):
            self.go_away(chance.uniform(*AWAY_S))

    def waits_on_disk(self):
        directory = self.path("staging" if self.name == "s3" else "spool")
        found = (os.path.join(at, file) for at, _, files in os.walk(directory) for file in files)
        try:
            return any(os.path.getsize(file) > 64 for file in found)
        except FileNotFoundError:
            return True

    def run(self):
        try:
            self.start_destination()
            self.configure()
            self.start_sluice()
            await_true("Sluice answers", lambda: answers(f"http://127.0.0.1:{self.port}/health"))
            clients = self.spawn("clients", f"{options.bin}/sluice-loadtest", "run", "--target",
                                 f"http://127.0.0.1:{self.port}/v1/events", "--mode", "event", "--event-bytes", "400",
                                 "--connections", "16", "--rate", str(options.rate), "--duration", "86400",
                                 "--timeout", "5", "--acks", self.path("acks"), "--json", self.path("run.json"))
            outages = threading.Thread(target=self.outages)
            if self.name != "file":
                outages.start()
            for _ in range(self.kills):
                time.sleep(self.random.uniform(0, LIFE_S))
                if self.sluice.poll() is not None:
                    raise RuntimeError(f"Sluice ended by itself with {self.sluice.returncode}")
                if self.name != "file":
                    self.with_records += self.waits_on_disk()
                self.end(self.sluice, signal.SIGKILL)
                self.start_sluice()
            self.over.set()
            if self.name != "file":
                outages.join()
            await_true("Sluice answers", lambda: answers(f"http://127.0.0.1:{self.port}/health"))
            self.end(clients, signal.SIGINT)
            if self.name in ("kinesis", "kafka"):
                subprocess.run([f"{options.bin}/sluice", "spool", "wait", "--timeout-s", "300", "--config",
                                self.path("sluice.toml")], check=True, capture_output=True, env=ENV)
            code = self.end(self.sluice)
            if code:
                raise RuntimeError(f"Sluice ended with {code} after SIGTERM")
            self.audit()
        except Exception as error:  # The other drills go on.
            self.failure = f"{self.name}: {error}"
        finally:
            self.over.set()
            for process in list(self.children):
                process.kill()
                process.wait()

    def consume(self):
        """Kafka's own consumer, until nothing has come for some seconds."""
        os.mkdir(self.path("stored"))
        with open(self.path("stored/records.ndjson"), "wb") as out, open(self.path("consumer.log"), "wb") as log:
            subprocess.run(self.java("org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server",
                                     f"127.0.0.1:{self.far}", "--topic", "clicks", "--from-beginning",
                                     "--timeout-ms", "15000"), check=True, stdout=out, stderr=log)

    def audit(self):
        stored = ["--dir", self.path("stored")]
        if self.name in ("s3", "kinesis"):
            self.end(self.destination)
            stored = ["--ledger", self.path("ledger")]
        elif self.name == "kafka":
            self.consume()
        done = subprocess.run([f"{options.bin}/sluice-loadtest", "audit", "--acks", self.path("acks"), *stored,
                               "--json", self.path("audit.json")], capture_output=True, text=True, check=False)
        with open(self.path("audit.log"), "w", encoding="utf-8") as log:
            log.write(done.stdout + done.stderr)
        with open(self.path("audit.json"), encoding="utf-8") as file:
            self.result = json.load(file)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)


def main():
    names = options.only.split(",")
    drills = [Drill(name, options.kills // len(names) + (at < options.kills % len(names)))
              for at, name in enumerate(names)]
    threads = [threading.Thread(target=drill.run) for drill in drills]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("| destination | SIGKILLs | with records waiting on disk | answered 200 | of them not stored | stored twice |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for drill in drills:
        if drill.result:
            total = drill.result
            # Files are the destination: they have no other records on disk.
            waited = "-" if drill.name == "file" else f"{drill.with_records:,}"
            print(f"| {drill.name} | {drill.kills:,} | {waited} | {total['acked']:,} | {total['lost']:,} |"
                  f" {total['duplicated']:,} |")
    print(f"\nseed {options.seed}, {time.monotonic() - began:.0f} s")
    failures = [drill.failure for drill in drills if drill.failure]
    for failure in failures:
        print(failure, file=sys.stderr)
    return bool(failures)


options = OPTIONS.parse_args()
shutil.rmtree(options.dir, ignore_errors=True)
os.makedirs(options.dir)
kafka_jars = None
if "kafka" in options.only:
    installed = subprocess.run(["bench-harness/peers/kafka/jars.sh", options.kafka], check=True, stdout=subprocess.PIPE, text=True)
    kafka_jars = installed.stdout.strip()
failed = main()
if not failed:
    shutil.rmtree(options.dir)
sys.exit(failed)
