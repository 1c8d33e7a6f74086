// The AWS SDK for JavaScript with its default settings: h2 to Kinesis, HTTP/1.1 to S3.
// Endpoints, region and credentials are in the environment.
import assert from 'node:assert/strict'
import {
  CreateStreamCommand, DeleteStreamCommand, DescribeStreamSummaryCommand, GetRecordsCommand,
  GetShardIteratorCommand, KinesisClient, ListStreamsCommand, PutRecordsCommand, waitUntilStreamExists,
} from '@aws-sdk/client-kinesis'
import { GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'

const kinesis = new KinesisClient({})
const StreamName = 'sdk-javascript'
await kinesis.send(new CreateStreamCommand({ StreamName, ShardCount: 1 }))
await waitUntilStreamExists({ client: kinesis, minDelay: 1, maxWaitTime: 30 }, { StreamName })
assert((await kinesis.send(new ListStreamsCommand({}))).StreamNames.includes(StreamName))
const summary = await kinesis.send(new DescribeStreamSummaryCommand({ StreamName }))
assert.equal(summary.StreamDescriptionSummary.StreamARN,
  `arn:aws:kinesis:${process.env.AWS_REGION}:000000000000:stream/${StreamName}`)
const Data = Uint8Array.from({ length: 256 }, (_, at) => at)
const put = await kinesis.send(new PutRecordsCommand({ StreamName, Records: [{ Data, PartitionKey: 'ключ' }] }))
assert.equal(put.FailedRecordCount, 0)
const ShardId = put.Records[0].ShardId
const start = await kinesis.send(
  new GetShardIteratorCommand({ StreamName, ShardId, ShardIteratorType: 'TRIM_HORIZON' }))
const { Records: [record] } = await kinesis.send(new GetRecordsCommand({ ShardIterator: start.ShardIterator }))
assert.deepEqual(Uint8Array.from(record.Data), Data)
assert.equal(record.PartitionKey, 'ключ')
assert(Math.abs(Date.now() - record.ApproximateArrivalTimestamp) < 3_600_000)
await assert.rejects(
  kinesis.send(new PutRecordsCommand({ StreamName: 'nosuch', Records: [{ Data, PartitionKey: 'k' }] })),
  error => error.name === 'ResourceNotFoundException' && error.message.includes('nosuch'))
await kinesis.send(new DeleteStreamCommand({ StreamName }))
kinesis.destroy()

const s3 = new S3Client({ forcePathStyle: true })
const at = { Bucket: 'clicks', Key: 'sdk/javascript object' }
const data = '0123456789'.repeat(100_000)
await s3.send(new PutObjectCommand({ ...at, Body: data }))
for (const [Range, want] of [
  ['bytes=5-14', data.slice(5, 15)], ['bytes=-7', data.slice(-7)], ['bytes=999990-', data.slice(-10)],
]) {
  const part = await s3.send(new GetObjectCommand({ ...at, Range }))
  assert.equal(part.$metadata.httpStatusCode, 206)
  assert.equal(await part.Body.transformToString(), want)
}
assert.equal(await (await s3.send(new GetObjectCommand(at))).Body.transformToString(), data)
s3.destroy()
console.log('ok')
