"""What an S3 server has, told by boto3: a client that shares nothing with the one that wrote it.

s3.py <endpoint> make <bucket>          makes the bucket
s3.py <endpoint> read <bucket> <prefix> prints one JSON document per object, after a look at its form
"""

import gzip
import json
import re
import sys
import time

import boto3
from botocore.config import Config

# The login that the servers know.
ACCESS_KEY, SECRET_KEY = "sluice", "interop-secret"

# Below the prefix: the hour of upload, then its second and a random UUID.
KEY = re.compile(
    r"(year=\d{4}/month=\d\d/day=\d\d/hour=\d\d/)(\d{10})-"
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.log\.gz"
)


def expect(holds, key, what):
    if not holds:
        sys.exit(f"{key}: {what}")


def read(s3, bucket, prefix):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for key in (found["Key"] for page in pages for found in page.get("Contents", [])):
        form = KEY.fullmatch(key[len(prefix) :])
        expect(form, key, "not the form of a key")
        hour = time.strftime("year=%Y/month=%m/day=%d/hour=%H/", time.gmtime(int(form[2])))
        expect(form[1] == hour, key, "not the hour of its upload")
        answer = s3.get_object(Bucket=bucket, Key=key)
        for header, value in (("ContentEncoding", "gzip"), ("ContentType", "text/x-log")):
            expect(answer.get(header) == value, key, f"{header} {answer.get(header)}")
        # CRC and length of every member are checked, and anything behind the last one is refused.
        text = gzip.decompress(answer["Body"].read()).decode()
        expect("" not in text.split("\n"), key, "an empty line, or a newline after the last one")
        yield {"key": key, "class": answer.get("StorageClass", "STANDARD"), "text": text}


def main():
    endpoint, command, bucket, *prefix = sys.argv[1:]
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}),
    )
    if command == "make":
        s3.create_bucket(Bucket=bucket)
    else:
        for found in read(s3, bucket, *prefix):
            print(json.dumps(found))


main()
