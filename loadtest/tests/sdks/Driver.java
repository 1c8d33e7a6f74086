import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.Map;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisClient;
import software.amazon.awssdk.services.kinesis.model.PutRecordsRequestEntry;
import software.amazon.awssdk.services.kinesis.model.Record;
import software.amazon.awssdk.services.kinesis.model.ResourceNotFoundException;
import software.amazon.awssdk.services.kinesis.model.ShardIteratorType;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.GetObjectResponse;

/** The AWS SDK for Java with its default settings: CBOR to Kinesis, and h2 from the asynchronous client.
 * Endpoints, region and credentials are in the environment. */
class Driver {
  public static void main(String[] args) throws Exception {
    streams();
    asynchronous();
    objects();
    System.out.println("ok");
  }

  static void streams() {
    String name = "sdk-java";
    try (KinesisClient client = KinesisClient.create()) {
      client.createStream(r -> r.streamName(name).shardCount(1));
      client.waiter().waitUntilStreamExists(r -> r.streamName(name));
      check(client.listStreams().streamNames().contains(name), "ListStreams");
      String arn = client.describeStreamSummary(r -> r.streamName(name))
          .streamDescriptionSummary().streamARN();
      String region = System.getenv("AWS_REGION");
      check(arn.equals("arn:aws:kinesis:" + region + ":000000000000:stream/" + name), arn);
      byte[] data = new byte[256];
      for (int at = 0; at < data.length; at++) {
        data[at] = (byte) at;
      }
      var put = client.putRecords(r -> r.streamName(name).records(entry(data)));
      check(put.failedRecordCount() == 0, "PutRecords");
      // A time in the call: milliseconds with a tag, in CBOR.
      var start = client.getShardIterator(r -> r.streamName(name).shardId(put.records().get(0).shardId())
          .shardIteratorType(ShardIteratorType.AT_TIMESTAMP).timestamp(Instant.now().minusSeconds(600)));
      var got = client.getRecords(r -> r.shardIterator(start.shardIterator()));
      check(got.records().size() == 1, "GetRecords: " + got);
      Record record = got.records().get(0);
      check(Arrays.equals(record.data().asByteArray(), data), "data");
      check(record.partitionKey().equals("ключ"), "partition key");
      Duration age = Duration.between(record.approximateArrivalTimestamp(), Instant.now()).abs();
      check(age.toHours() < 1, "arrival " + record.approximateArrivalTimestamp());
      try {
        client.putRecords(r -> r.streamName("nosuch").records(entry(data)));
        check(false, "a stream that is not there took a record");
      } catch (ResourceNotFoundException error) {
        check(error.getMessage().contains("nosuch") && error.requestId() != null, error.toString());
      }
      client.deleteStream(r -> r.streamName(name));
    }
  }

  static void asynchronous() {
    try (KinesisAsyncClient client = KinesisAsyncClient.create()) {
      var put = client.putRecords(r -> r.streamName("clicks").records(entry(new byte[] {1, 2, 3}))).join();
      check(put.failedRecordCount() == 0, "PutRecords, asynchronous");
    }
  }

  static void objects() {
    try (S3Client client = S3Client.builder().forcePathStyle(true).build()) {
      String bucket = "clicks", key = "sdk/java object", data = "0123456789".repeat(100_000);
      client.putObject(r -> r.bucket(bucket).key(key), RequestBody.fromString(data));
      int end = data.length();
      var asked = Map.of("bytes=5-14", data.substring(5, 15), "bytes=-7", data.substring(end - 7),
          "bytes=999990-", data.substring(end - 10));
      asked.forEach((range, want) -> {
        var part = client.getObjectAsBytes(r -> r.bucket(bucket).key(key).range(range));
        GetObjectResponse head = part.response();
        check(head.sdkHttpResponse().statusCode() == 206 && head.contentRange() != null, range);
        check(part.asString(StandardCharsets.US_ASCII).equals(want), range);
      });
      check(client.getObjectAsBytes(r -> r.bucket(bucket).key(key)).asUtf8String().equals(data), "GetObject");
    }
  }

  static PutRecordsRequestEntry entry(byte[] data) {
    return PutRecordsRequestEntry.builder().data(SdkBytes.fromByteArray(data)).partitionKey("ключ").build();
  }

  static void check(boolean holds, String what) {
    if (!holds) {
      throw new AssertionError(what);
    }
  }
}
