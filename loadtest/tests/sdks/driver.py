"""boto3 against the emulators. Endpoints, region and credentials are in the environment."""

import datetime
import io
import os

import boto3

kinesis = boto3.client("kinesis")
name = "sdk-python"
kinesis.create_stream(StreamName=name, ShardCount=1)
kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
assert name in kinesis.list_streams()["StreamNames"]
summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
region = os.environ["AWS_REGION"]
assert summary["StreamARN"] == f"arn:aws:kinesis:{region}:000000000000:stream/{name}", summary
data = bytes(range(256))
put = kinesis.put_records(StreamName=name, Records=[{"Data": data, "PartitionKey": "ключ"}])
assert put["FailedRecordCount"] == 0, put
shard = put["Records"][0]["ShardId"]
start = kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
(record,) = kinesis.get_records(ShardIterator=start["ShardIterator"])["Records"]
assert (record["Data"], record["PartitionKey"]) == (data, "ключ"), record
age = datetime.datetime.now(datetime.timezone.utc) - record["ApproximateArrivalTimestamp"]
assert abs(age.total_seconds()) < 3600, age
try:
    kinesis.put_record(StreamName="nosuch", Data=b"x", PartitionKey="k")
    raise AssertionError("a stream that is not there took a record")
except kinesis.exceptions.ResourceNotFoundException as error:
    assert "nosuch" in error.response["Error"]["Message"], error.response
    assert error.response["ResponseMetadata"]["RequestId"], error.response
kinesis.delete_stream(StreamName=name)

s3 = boto3.client("s3")
data = b"0123456789" * 1_000_000
s3.put_object(Bucket="clicks", Key="sdk/python object", Body=data)
for asked, want in [("bytes=5-14", data[5:15]), ("bytes=-7", data[-7:]), ("bytes=9999990-", data[-10:])]:
    part = s3.get_object(Bucket="clicks", Key="sdk/python object", Range=asked)
    assert part["Body"].read() == want, asked
    assert part["ContentRange"].endswith("/10000000"), part
try:
    s3.get_object(Bucket="clicks", Key="sdk/python object", Range="bytes=10000000-")
    raise AssertionError("a range behind the end was answered")
except s3.exceptions.ClientError as error:
    assert error.response["Error"]["Code"] == "InvalidRange", error.response
# 10 MB go in parts, each by a request with Range and If-Match.
whole = io.BytesIO()
s3.download_fileobj("clicks", "sdk/python object", whole)
assert whole.getvalue() == data
print("ok")
