"""Takes records apart with PyPI's aws-kinesis-agg, as a Lambda function gets them.

read.py <file>  has lines of two hashes, which do not matter here, a key and data in Base64; prints keys and data so
"""

import base64
import sys

from aws_kinesis_agg.deaggregator import deaggregate_records

for line in open(sys.argv[1]):
    _, _, key, data = line.split()
    record = {
        "kinesisSchemaVersion": "1.0",
        "sequenceNumber": "1",
        "approximateArrivalTimestamp": 0,
        "partitionKey": base64.b64decode(key).decode(),
        "data": data.encode(),
    }
    for user in deaggregate_records([{"kinesis": record}]):
        key = base64.b64encode(user["kinesis"]["partitionKey"].encode())
        print(key.decode(), user["kinesis"]["data"].decode())
