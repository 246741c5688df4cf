package main

import (
	"fmt"
	"time"

	"corelane/franz_go/expect"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What is written: a second between the records, the youngest in the middle.
const (
	count    = 10
	youngest = 6
	first    = int64(1_700_000_000_000)
)

func timestamp(number int) int64 {
	if number == youngest {
		return first + 100_000
	}
	return first + int64(number)*1000
}

func (c *client) produceAndConsume() {
	for number := range count {
		record := &kgo.Record{
			Topic:     c.records,
			Key:       fmt.Appendf(nil, "key %d", number),
			Value:     fmt.Appendf(nil, "value %d", number),
			Headers:   []kgo.RecordHeader{{Key: "number", Value: fmt.Append(nil, number)}},
			Timestamp: time.UnixMilli(timestamp(number)),
		}
		written := expect.Must(c.plain.ProduceSync(c.ctx, record).First())
		expect.Equal(written.Offset, int64(number))
	}
	refused := c.plain.ProduceSync(c.ctx, &kgo.Record{Topic: c.missing, Value: []byte("lost")})
	expect.Error(refused.FirstErr(), kerr.UnknownTopicOrPartition)
	for at, record := range c.consume(0) {
		expect.Equal(record.Offset, int64(at))
		expect.Equal(string(record.Key), fmt.Sprintf("key %d", at))
		expect.Equal(string(record.Value), fmt.Sprintf("value %d", at))
		expect.Equal(len(record.Headers), 1)
		expect.Equal(string(record.Headers[0].Value), fmt.Sprint(at))
		expect.Equal(record.Timestamp.UnixMilli(), timestamp(at))
	}
}

// consume reads from the beginning, which must be at this offset, to the last record.
func (c *client) consume(from int) []*kgo.Record {
	start := kgo.NewOffset().AtStart()
	partitions := map[string]map[int32]kgo.Offset{c.records: {0: start}}
	consumer := expect.Must(kgo.NewClient(kgo.SeedBrokers(c.plain.OptValue(kgo.SeedBrokers).([]string)...),
		kgo.ConsumePartitions(partitions)))
	defer consumer.Close()
	var read []*kgo.Record
	for len(read) < count-from {
		fetches := consumer.PollFetches(c.ctx)
		expect.Must(0, fetches.Err())
		read = append(read, fetches.Records()...)
	}
	expect.Equal(read[0].Offset, int64(from))
	expect.Equal(len(read), count-from)
	return read
}

func (c *client) offsets() {
	look := func(listed kadm.ListedOffsets, err error) kadm.ListedOffset {
		expect.Error(err, nil)
		offset, found := listed.Lookup(c.records, 0)
		expect.Equal(found, true)
		expect.Error(offset.Err, nil)
		return offset
	}
	expect.Equal(look(c.admin.ListStartOffsets(c.ctx, c.records)).Offset, 0)
	expect.Equal(look(c.admin.ListEndOffsets(c.ctx, c.records)).Offset, count)
	expect.Equal(look(c.admin.ListCommittedOffsets(c.ctx, c.records)).Offset, count)
	expect.Equal(look(c.admin.ListLocalLogStartOffsets(c.ctx, c.records)).Offset, 0)
	expect.Equal(look(c.admin.ListLatestRemoteOffsets(c.ctx, c.records)).Offset, -1)

	after := look(c.admin.ListOffsetsAfterMilli(c.ctx, timestamp(2)+1, c.records))
	expect.Equal(after.Offset, 3)
	expect.Equal(after.Timestamp, timestamp(3))
	// behind the last but one there is only what is younger than all
	after = look(c.admin.ListOffsetsAfterMilli(c.ctx, timestamp(count-1)+1, c.records))
	expect.Equal(after.Offset, youngest)
	// behind the youngest there is none; kadm tells the end for it
	after = look(c.admin.ListOffsetsAfterMilli(c.ctx, timestamp(youngest)+1, c.records))
	expect.Equal(after.Offset, count)
	expect.Equal(after.Timestamp, -1)

	top := look(c.admin.ListMaxTimestampOffsets(c.ctx, c.records))
	expect.Equal(top.Offset, youngest)
	expect.Equal(top.Timestamp, timestamp(youngest))
	empty := expect.Must(c.admin.ListMaxTimestampOffsets(c.ctx, c.topic))[c.topic][0]
	expect.Error(empty.Err, nil)
	expect.Equal(empty.Offset, -1)

	listed := expect.Must(c.admin.ListEndOffsets(c.ctx, c.missing))
	expect.Error(listed[c.missing][-1].Err, kerr.UnknownTopicOrPartition)
}

func (c *client) leaderEpochs() {
	current := expect.Must(c.admin.ListTopics(c.ctx, c.records))[c.records].Partitions[0].LeaderEpoch
	asked := func(epoch int32) kadm.OffsetForLeaderEpoch {
		var request kadm.OffsetForLeaderEpochRequest
		request.Add(c.records, 0, epoch)
		return expect.Must(c.admin.OffsetForLeaderEpoch(c.ctx, request))[c.records][0]
	}
	now := asked(current)
	expect.Error(now.Err, nil)
	expect.Equal(now.LeaderEpoch, current)
	expect.Equal(now.EndOffset, count)
	// one that has never been
	unknown := asked(current + 7)
	expect.Error(unknown.Err, nil)
	expect.Equal(unknown.LeaderEpoch, -1)
	expect.Equal(unknown.EndOffset, -1)

	request := kmsg.NewPtrOffsetForLeaderEpochRequest()
	request.ReplicaID = -1
	topic := kmsg.NewOffsetForLeaderEpochRequestTopic()
	topic.Topic = c.records
	partition := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	partition.Partition = 99
	topic.Partitions = append(topic.Partitions, partition)
	request.Topics = append(request.Topics, topic)
	// past what the client knows of leaders, which it would find none for
	response := expect.Must(c.plain.Broker(int(node)).Request(c.ctx, request)).(*kmsg.OffsetForLeaderEpochResponse)
	expect.Error(code(response.Topics[0].Partitions[0].ErrorCode), kerr.UnknownTopicOrPartition)
}

func (c *client) deleteRecords() {
	deleted := func(topic string, before int64) kadm.DeleteRecordsResponse {
		var offsets kadm.Offsets
		offsets.AddOffset(topic, 0, before, -1)
		response, _ := expect.Must(c.admin.DeleteRecords(c.ctx, offsets)).Lookup(topic, 0)
		return response
	}
	response := deleted(c.records, 4)
	expect.Error(response.Err, nil)
	expect.Equal(response.LowWatermark, 4)
	expect.Error(deleted(c.records, 99).Err, kerr.OffsetOutOfRange)
	c.consume(4)
	start := expect.Must(c.admin.ListStartOffsets(c.ctx, c.records))[c.records][0]
	expect.Equal(start.Offset, 4)
	// all that is there
	response = deleted(c.records, -1)
	expect.Error(response.Err, nil)
	expect.Equal(response.LowWatermark, count)
}
