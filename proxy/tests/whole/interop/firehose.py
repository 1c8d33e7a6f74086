"""A delivery stream of a third_party emulator and the bucket behind it, by way of boto3.

firehose.py <endpoint> make <name>  makes both, of one name
firehose.py <endpoint> read <name>  prints the text of each object as one JSON string
"""

import json
import sys

import boto3

endpoint, command, name = sys.argv[1:]
where = dict(
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="interop",
    aws_secret_access_key="interop-secret",
)
s3 = boto3.client("s3", **where)
if command == "make":
    s3.create_bucket(Bucket=name)
    boto3.client("firehose", **where).create_delivery_stream(
        DeliveryStreamName=name,
        DeliveryStreamType="DirectPut",
        ExtendedS3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/interop",
            "BucketARN": f"arn:aws:s3:::{name}",
            # Defaults of the service, without which moto describes a stream that the AWS SDK cannot read.
            "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 300},
            "CompressionFormat": "UNCOMPRESSED",
            "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
        },
    )
else:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name):
        for found in page.get("Contents", []):
            body = s3.get_object(Bucket=name, Key=found["Key"])["Body"]
            print(json.dumps(body.read().decode()))
