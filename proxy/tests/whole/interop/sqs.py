"""A queue of a third_party emulator, by way of boto3.

sqs.py <endpoint> make <name>  makes it and prints its URL; a name that ends with .fifo makes a FIFO queue
sqs.py <endpoint> read <url>   prints each message as a JSON array of its group, its deduplication id and its body
"""

import json
import sys

import boto3

endpoint, command, queue = sys.argv[1:]
sqs = boto3.client(
    "sqs",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="interop",
    aws_secret_access_key="interop-secret",
)
if command == "make":
    kind = {"FifoQueue": "true"} if queue.endswith(".fifo") else {}
    print(sqs.create_queue(QueueName=queue, Attributes=kind)["QueueUrl"])
else:
    empty = 0
    while empty < 3:
        found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, AttributeNames=["All"]).get("Messages", [])
        empty = 0 if found else empty + 1
        for message in found:
            said = message.get("Attributes", {})
            print(json.dumps([said.get("MessageGroupId"), said.get("MessageDeduplicationId"), message["Body"]]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
