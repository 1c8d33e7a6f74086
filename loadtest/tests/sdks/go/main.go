package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	ktypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Endpoints, region and credentials are in the environment, as for any program of this SDK.
func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	settings := must(config.LoadDefaultConfig(ctx))
	streams(ctx, kinesis.NewFromConfig(settings))
	objects(ctx, s3.NewFromConfig(settings, func(o *s3.Options) { o.UsePathStyle = true }))
	fmt.Println("ok")
}

func streams(ctx context.Context, client *kinesis.Client) {
	name := aws.String("sdk-go")
	must(client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(1)}))
	described := &kinesis.DescribeStreamInput{StreamName: name}
	check(kinesis.NewStreamExistsWaiter(client).Wait(ctx, described, 30*time.Second) == nil, "waiter")
	listed := must(client.ListStreams(ctx, &kinesis.ListStreamsInput{}))
	check(len(listed.StreamNames) >= 2, "ListStreams")
	summary := must(client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: name}))
	arn := "arn:aws:kinesis:" + os.Getenv("AWS_REGION") + ":000000000000:stream/sdk-go"
	check(*summary.StreamDescriptionSummary.StreamARN == arn, *summary.StreamDescriptionSummary.StreamARN)

	var data []byte
	for at := range 256 {
		data = append(data, byte(at))
	}
	put := must(client.PutRecords(ctx, &kinesis.PutRecordsInput{
		StreamName: name,
		Records:    []ktypes.PutRecordsRequestEntry{{Data: data, PartitionKey: aws.String("ключ")}},
	}))
	check(*put.FailedRecordCount == 0, "PutRecords")
	start := must(client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
		StreamName: name, ShardId: put.Records[0].ShardId, ShardIteratorType: ktypes.ShardIteratorTypeTrimHorizon,
	}))
	got := must(client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: start.ShardIterator}))
	check(len(got.Records) == 1 && bytes.Equal(got.Records[0].Data, data), "GetRecords")
	check(*got.Records[0].PartitionKey == "ключ", "partition key")
	age := time.Since(*got.Records[0].ApproximateArrivalTimestamp)
	check(age < time.Hour && age > -time.Hour, "arrival "+age.String())
	must(client.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: name}))
	// The name is taken until the stream is gone.
	gone := kinesis.NewStreamNotExistsWaiter(client, func(options *kinesis.StreamNotExistsWaiterOptions) {
		options.MinDelay = 100 * time.Millisecond
	})
	check(gone.Wait(ctx, described, 30*time.Second) == nil, "waiter of the deletion")
}

func objects(ctx context.Context, client *s3.Client) {
	bucket, key := aws.String("clicks"), aws.String("sdk/go object")
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	must(client.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: bytes.NewReader(data)}))
	for asked, want := range map[string][]byte{
		"bytes=5-14": data[5:15], "bytes=-7": data[len(data)-7:], "bytes=999990-": data[999990:],
	} {
		part := must(client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, Range: aws.String(asked)}))
		body := must(io.ReadAll(part.Body))
		check(bytes.Equal(body, want), asked)
		check(part.ContentRange != nil, "Content-Range of "+asked)
	}
	whole := must(client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key}))
	check(bytes.Equal(must(io.ReadAll(whole.Body)), data), "GetObject")
}

func must[T any](value T, err error) T {
	check(err == nil, fmt.Sprint(err))
	return value
}

func check(holds bool, what string) {
	if !holds {
		fmt.Fprintln(os.Stderr, "sdk-go:", what)
		os.Exit(1)
	}
}
