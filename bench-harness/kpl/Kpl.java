import com.amazonaws.auth.AWSStaticCredentialsProvider;
import com.amazonaws.auth.BasicAWSCredentials;
import com.amazonaws.services.kinesis.producer.Attempt;
import com.amazonaws.services.kinesis.producer.KinesisProducer;
import com.amazonaws.services.kinesis.producer.KinesisProducerConfiguration;
import com.amazonaws.services.kinesis.producer.UserRecordFailedException;
import com.amazonaws.services.kinesis.producer.UserRecordResult;
import com.google.common.util.concurrent.FutureCallback;
import com.google.common.util.concurrent.Futures;
import com.google.common.util.concurrent.MoreExecutors;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Four producers of the Kinesis Producer Library on one stream, each with its own daemon, offered records of 400 bytes on
 * a schedule. Prints a row of bench-harness/kpl.sh's table.
 *
 * <p>KINESIS_PORT STS_PORT SECONDS RECORDS_PER_SECOND random|users|zipf AGGREGATES TEMPORARY_DIRECTORY
 */
public class Kpl {
  private static final int PRODUCERS = 4;
  private static final int USERS = 20_000;

  private static final AtomicLong delivered = new AtomicLong();
  private static final AtomicLong failed = new AtomicLong();
  private static final AtomicLong throttled = new AtomicLong();

  public static void main(String[] args) throws Exception {
    int port = Integer.parseInt(args[0]);
    int stsPort = Integer.parseInt(args[1]);
    long records = Long.parseLong(args[2]) * Long.parseLong(args[3]);
    long rate = Long.parseLong(args[3]);
    Keys keys = new Keys(args[4]);
    boolean aggregates = Boolean.parseBoolean(args[5]);

    KinesisProducer[] producers = new KinesisProducer[PRODUCERS];
    for (int i = 0; i < PRODUCERS; i++) {
      producers[i] =
          new KinesisProducer(
              new KinesisProducerConfiguration()
                  .setRegion("us-east-1")
                  .setKinesisEndpoint("localhost")
                  .setKinesisPort(port)
                  .setStsEndpoint("localhost")
                  .setStsPort(stsPort)
                  .setMetricsLevel("none")
                  .setVerifyCertificate(false)
                  .setAggregationEnabled(aggregates)
                  .setTempDirectory(args[6])
                  .setCredentialsProvider(
                      new AWSStaticCredentialsProvider(new BasicAWSCredentials("test", "test"))));
    }
    Thread[] threads = new Thread[PRODUCERS];
    long began = System.nanoTime();
    for (int i = 0; i < PRODUCERS; i++) {
      KinesisProducer producer = producers[i];
      Random random = new Random(i);
      threads[i] = new Thread(() -> offer(producer, records, rate, keys, random, began));
      threads[i].start();
    }
    for (Thread thread : threads) thread.join();
    long inTime = delivered.get();
    long sent = System.nanoTime();
    for (KinesisProducer producer : producers) producer.flushSync();
    double late = (System.nanoTime() - sent) / 1e9;
    long offered = PRODUCERS * records;
    System.out.printf(
        "%d | %d (%d %%) | %d (%d %%), the rest in %.1f s | %d | %d (%.2f %%)%n",
        offered, delivered.get(), 100 * delivered.get() / offered, inTime, 100 * inTime / offered, late, failed.get(),
        throttled.get(), 100.0 * throttled.get() / Math.max(1, delivered.get()));
    for (KinesisProducer producer : producers) producer.destroy();
    System.exit(0);
  }

  private static void offer(KinesisProducer producer, long records, long rate, Keys keys, Random random, long began) {
    byte[] payload = "x".repeat(400).getBytes(StandardCharsets.UTF_8);
    for (long n = 0; n < records; n++) {
      long wait = began + n * 1_000_000_000L / rate - System.nanoTime();
      if (wait > 0) {
        try {
          Thread.sleep(wait / 1_000_000, (int) (wait % 1_000_000));
        } catch (InterruptedException e) {
          return;
        }
      }
      Futures.addCallback(
          producer.addUserRecord("clicks", keys.next(random), ByteBuffer.wrap(payload)),
          new Count(),
          MoreExecutors.directExecutor());
    }
  }

  private static class Count implements FutureCallback<UserRecordResult> {
    @Override
    public void onSuccess(UserRecordResult result) {
      delivered.incrementAndGet();
      attempts(result);
    }

    @Override
    public void onFailure(Throwable error) {
      failed.incrementAndGet();
      if (error instanceof UserRecordFailedException) attempts(((UserRecordFailedException) error).getResult());
    }

    private void attempts(UserRecordResult result) {
      for (Attempt attempt : result.getAttempts()) {
        if (!attempt.isSuccessful() && attempt.getErrorCode().contains("Throughput")) throttled.incrementAndGet();
      }
    }
  }

  /** The partition keys that sluice-loadtest's events lead to: of users alike, or by Zipf's law with exponent 1. */
  private static class Keys {
    private final String kind;
    private final double[] upTo = new double[USERS];

    Keys(String kind) {
      this.kind = kind;
      double sum = 0;
      for (int i = 0; i < USERS; i++) upTo[i] = sum += 1.0 / (i + 1);
    }

    String next(Random random) {
      switch (kind) {
        case "random":
          return Long.toHexString(random.nextLong());
        case "users":
          return "user-" + random.nextInt(USERS);
        default:
          int at = Arrays.binarySearch(upTo, random.nextDouble() * upTo[USERS - 1]);
          return "user-" + (at < 0 ? -at - 1 : at);
      }
    }
  }
}
