package main

import (
	"slices"

	"corelane/franz_go/expect"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *client) createTopics() {
	configs := map[string]*string{"retention.ms": text("60000")}
	created, err := c.admin.CreateTopic(c.ctx, 3, 1, configs, c.topic)
	expect.Error(err, nil)
	expect.Equal(created.NumPartitions, 3)
	expect.Equal(created.ReplicationFactor, 1)
	retention := created.Configs["retention.ms"]
	expect.Equal(retention.MaybeValue(), "60000")
	expect.Equal(retention.Source, kmsg.ConfigSourceDynamicTopicConfig)

	// the broker's defaults
	created, err = c.admin.CreateTopic(c.ctx, -1, -1, nil, c.records)
	expect.Error(err, nil)
	expect.Equal(created.NumPartitions, 1)

	refused := func(wanted error, partitions int32, replicas int16, configs map[string]*string, topic string) {
		_, err := c.admin.CreateTopic(c.ctx, partitions, replicas, configs, topic)
		expect.Error(err, wanted)
		validated := expect.Must(c.admin.ValidateCreateTopics(c.ctx, partitions, replicas, configs, topic))
		expect.Error(validated[topic].Err, wanted)
	}
	refused(kerr.TopicAlreadyExists, 1, 1, nil, c.topic)
	refused(kerr.InvalidTopicException, 1, 1, nil, "no/name")
	refused(kerr.InvalidPartitions, 0, 1, nil, c.missing)
	refused(kerr.InvalidReplicationFactor, 1, 7, nil, c.missing)
	refused(kerr.InvalidConfig, 1, 1, map[string]*string{"cleanup.policy": text("never")}, c.missing)
	refused(kerr.InvalidConfig, 1, 1, map[string]*string{"no.such.config": text("1")}, c.missing)

	// one topic's error is not the other's
	mixed := expect.Must(c.admin.CreateTopics(c.ctx, 1, 1, nil, c.topic, "no/name"))
	expect.Error(mixed[c.topic].Err, kerr.TopicAlreadyExists)
	expect.Error(mixed["no/name"].Err, kerr.InvalidTopicException)

	validated := expect.Must(c.admin.ValidateCreateTopics(c.ctx, 2, 1, configs, c.missing))
	expect.Error(validated[c.missing].Err, nil)
	expect.Equal(validated[c.missing].NumPartitions, 2)

	c.partitionsBecome(c.topic, 3)
	c.partitionsBecome(c.records, 1)
	c.describeTopics(created.ID)
}

// partitionsBecome waits until the broker tells so many partitions, all of them led.
func (c *client) partitionsBecome(topic string, count int) {
	expect.Eventually(c.ctx, topic+" has its partitions", func() bool {
		listed := expect.Must(c.admin.ListTopics(c.ctx, topic))
		led := 0
		listed.EachPartition(func(partition kadm.PartitionDetail) {
			if partition.Leader == node {
				led++
			}
		})
		return led == count && len(listed[topic].Partitions) == count
	})
}

func (c *client) describeTopics(idOfRecords kadm.TopicID) {
	metadata := expect.Must(c.admin.Metadata(c.ctx))
	expect.True(!metadata.Topics.Has(c.missing), "%s is there", c.missing)
	expect.Equal(metadata.Topics[c.records].ID, idOfRecords)
	expect.Equal(metadata.Topics[c.records].IsInternal, false)
	for _, partition := range metadata.Topics[c.topic].Partitions.Sorted() {
		expect.Error(partition.Err, nil)
		expect.Equal(partition.Replicas, []int32{node})
		expect.Equal(partition.ISR, []int32{node})
		expect.Equal(len(partition.OfflineReplicas), 0)
	}
	metadata = expect.Must(c.admin.Metadata(c.ctx, c.missing))
	expect.Error(metadata.Topics[c.missing].Err, kerr.UnknownTopicOrPartition)

	// a page of them, and the next
	request := kmsg.NewPtrDescribeTopicPartitionsRequest()
	for _, name := range []string{c.missing, c.topic} {
		topic := kmsg.NewDescribeTopicPartitionsRequestTopic()
		topic.Topic = name
		request.Topics = append(request.Topics, topic)
	}
	request.ResponsePartitionLimit = 2
	page := expect.Must(request.RequestWith(c.ctx, c.plain))
	var seen []int32
	for _, topic := range page.Topics {
		if *topic.Topic == c.missing {
			expect.Error(code(topic.ErrorCode), kerr.UnknownTopicOrPartition)
			continue
		}
		expect.Equal(*topic.Topic, c.topic)
		for _, partition := range topic.Partitions {
			seen = append(seen, partition.Partition)
		}
	}
	expect.Equal(seen, []int32{0, 1})
	expect.True(page.NextCursor != nil, "no cursor")
	if page.NextCursor == nil {
		return
	}
	expect.Equal(page.NextCursor.Topic, c.topic)
	expect.Equal(page.NextCursor.Partition, 2)
	cursor := kmsg.NewDescribeTopicPartitionsRequestCursor()
	cursor.Topic, cursor.Partition = page.NextCursor.Topic, page.NextCursor.Partition
	request.Cursor = &cursor
	page = expect.Must(request.RequestWith(c.ctx, c.plain))
	expect.Equal(len(page.Topics), 1)
	expect.Equal(len(page.Topics[0].Partitions), 1)
	expect.True(page.NextCursor == nil, "a cursor behind the last partition")
}

func (c *client) createPartitions() {
	updated := func(count int, topic string, wanted error) {
		expect.Error(expect.Must(c.admin.UpdatePartitions(c.ctx, count, topic))[topic].Err, wanted)
	}
	updated(5, c.topic, nil)
	c.partitionsBecome(c.topic, 5)
	updated(3, c.topic, kerr.InvalidPartitions)
	updated(5, c.topic, kerr.InvalidPartitions)
	updated(3, c.missing, kerr.UnknownTopicOrPartition)

	validated := expect.Must(c.admin.ValidateUpdatePartitions(c.ctx, 9, c.topic))
	expect.Error(validated[c.topic].Err, nil)
	validated = expect.Must(c.admin.ValidateUpdatePartitions(c.ctx, 1, c.topic))
	expect.Error(validated[c.topic].Err, kerr.InvalidPartitions)

	// from 5, not from 9
	expect.Error(expect.Must(c.admin.CreatePartitions(c.ctx, 1, c.topic))[c.topic].Err, nil)
	c.partitionsBecome(c.topic, 6)
}

func (c *client) deleteTopics() {
	deleted := expect.Must(c.admin.DeleteTopics(c.ctx, c.topic, c.missing))
	expect.Error(deleted[c.topic].Err, nil)
	expect.Error(deleted[c.missing].Err, kerr.UnknownTopicOrPartition)

	id := expect.Must(c.admin.ListTopics(c.ctx, c.records))[c.records].ID
	expect.Error(c.deleteById(id), nil)
	expect.Error(c.deleteById(id), kerr.UnknownTopicID)

	expect.Eventually(c.ctx, "the topics are gone", func() bool {
		names := expect.Must(c.admin.ListTopics(c.ctx)).Names()
		return !slices.Contains(names, c.topic) && !slices.Contains(names, c.records)
	})
	expect.Error(expect.Must(c.admin.DeleteTopics(c.ctx, c.topic))[c.topic].Err, kerr.UnknownTopicOrPartition)
}

func (c *client) deleteById(id kadm.TopicID) error {
	request := kmsg.NewPtrDeleteTopicsRequest()
	request.TimeoutMillis = 15_000
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.TopicID = id
	request.Topics = append(request.Topics, topic)
	response := expect.Must(request.RequestWith(c.ctx, c.plain))
	expect.Equal(len(response.Topics), 1)
	expect.Equal(response.Topics[0].TopicID, id)
	return code(response.Topics[0].ErrorCode)
}
