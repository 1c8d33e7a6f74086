"""What the scripts here share: an environment without an AWS account, free ports, and waiting for a server."""

import os
import random
import socket
import time
import urllib.request

# Credentials that an emulator takes.
ENV = dict(
    os.environ,
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
)


def free_ports(count):
    """Below those that the kernel gives to connections, so that none takes one between two starts."""
    ports = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        if port not in ports:
            ports.append(port)
    return ports


def get(url):
    """The body of the answer, as text."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def await_true(what, holds, seconds=60):
    """Waits until it holds."""
    give_up = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > give_up:
            raise RuntimeError(f"waited {seconds} s in vain until {what}")
        time.sleep(0.05)


def answers(url):
    """Whether somebody answers 200."""
    try:
        get(url)
    except OSError:
        return False
    return True


def await_url(url):
    """Waits until somebody answers 200."""
    await_true(f"{url} answers", lambda: answers(url))
