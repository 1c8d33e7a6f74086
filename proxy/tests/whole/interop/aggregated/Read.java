import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.List;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** Takes records apart with the Kinesis Client Library, which wants the hashes of their shard. As read.py, otherwise. */
public class Read {
  public static void main(String[] args) throws Exception {
    AggregatorUtil aggregator = new AggregatorUtil();
    Base64.Encoder encoder = Base64.getEncoder();
    StringBuilder printed = new StringBuilder();
    for (String line : Files.readAllLines(Path.of(args[0]))) {
      String[] parts = line.split(" ");
      KinesisClientRecord record =
          KinesisClientRecord.builder()
              .sequenceNumber("1")
              .partitionKey(new String(Base64.getDecoder().decode(parts[2]), StandardCharsets.UTF_8))
              .data(ByteBuffer.wrap(Base64.getDecoder().decode(parts[3])))
              .build();
      for (KinesisClientRecord user :
          aggregator.deaggregate(List.of(record), new BigInteger(parts[0]), new BigInteger(parts[1]))) {
        byte[] data = new byte[user.data().remaining()];
        user.data().get(data);
        printed.append(encoder.encodeToString(user.partitionKey().getBytes(StandardCharsets.UTF_8)));
        printed.append(' ').append(encoder.encodeToString(data)).append('\n');
      }
    }
    System.out.print(printed);
  }
}
