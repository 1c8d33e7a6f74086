"""boto3 reads a stream from its beginning to its present end, and writes each record's data as a line.

    consume.py STREAM FILE

Endpoint, region and credentials are in the environment.
"""

import sys

import boto3

stream, path = sys.argv[1:]
kinesis = boto3.client("kinesis")
with open(path, "wb") as out:
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        at = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
        iterator = at["ShardIterator"]
        while iterator:
            read = kinesis.get_records(ShardIterator=iterator)
            for record in read["Records"]:
                out.write(record["Data"].rstrip(b"\n") + b"\n")
            if not read["Records"] and not read["MillisBehindLatest"]:
                break
            iterator = read.get("NextShardIterator")
