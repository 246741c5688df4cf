package main

import (
	"corelane/franz_go/expect"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *client) cluster() {
	metadata := expect.Must(c.admin.BrokerMetadata(c.ctx))
	expect.Equal(metadata.Brokers.NodeIDs(), []int32{node})
	expect.Equal(metadata.Controller, node)
	expect.Equal(len(metadata.Topics), 0)
	expect.True(metadata.Cluster != "", "no cluster id")

	request := kmsg.NewPtrDescribeClusterRequest()
	cluster := expect.Must(request.RequestWith(c.ctx, c.plain))
	expect.Error(code(cluster.ErrorCode), nil)
	expect.Equal(cluster.ClusterID, metadata.Cluster)
	expect.Equal(cluster.ControllerID, node)
	expect.Equal(len(cluster.Brokers), 1)
	expect.Equal(cluster.Brokers[0].NodeID, node)
	expect.Equal(cluster.Brokers[0].Host, metadata.Brokers[0].Host)
	expect.Equal(cluster.Brokers[0].Port, metadata.Brokers[0].Port)
	expect.Equal(cluster.Brokers[0].IsFenced, false)

	// controllers are told by their own listener only
	request.EndpointType = 2
	cluster = expect.Must(request.RequestWith(c.ctx, c.plain))
	expect.Error(code(cluster.ErrorCode), kerr.MismatchedEndpointType)
}

func (c *client) features() {
	versions := expect.Must(c.admin.ApiVersions(c.ctx))[node]
	expect.Error(versions.Err, nil)
	last, served := versions.KeyMaxVersion(kmsg.UpdateFeatures.Int16())
	expect.Equal(served, true)
	expect.Equal(last, 2)
	const name = "metadata.version"
	var level, supported int16
	for _, feature := range versions.Raw().FinalizedFeatures {
		if feature.Name == name {
			level = feature.MaxVersionLevel
		}
	}
	for _, feature := range versions.Raw().SupportedFeatures {
		if feature.Name == name {
			supported = feature.MaxVersion
		}
	}
	expect.True(level > 0 && level <= supported, "%s is %d of %d", name, level, supported)

	updated := func(feature string, level int16, upgrade int8, wanted error) {
		update := kadm.FeatureUpdate{Feature: feature, MaxVersionLevel: level, UpgradeType: upgrade}
		for _, validateOnly := range []bool{true, false} {
			updated := expect.Must(c.admin.UpdateFeatures(c.ctx, validateOnly, update))
			expect.Error(updated[feature].Err, wanted)
		}
	}
	const upgrade, safeDowngrade = 1, 2
	updated(name, level, upgrade, nil)
	updated(name, supported+1, upgrade, kerr.InvalidUpdateVersion)
	updated(name, 1, safeDowngrade, kerr.InvalidUpdateVersion)
	updated("no.such.feature", 1, upgrade, kerr.InvalidUpdateVersion)
}

func (c *client) quorum() {
	describe := func(topic string, partition int32) *kmsg.DescribeQuorumResponse {
		request := kmsg.NewPtrDescribeQuorumRequest()
		of := kmsg.NewDescribeQuorumRequestTopic()
		of.Topic = topic
		asked := kmsg.NewDescribeQuorumRequestTopicPartition()
		asked.Partition = partition
		of.Partitions = append(of.Partitions, asked)
		request.Topics = append(request.Topics, of)
		return expect.Must(request.RequestWith(c.ctx, c.plain))
	}
	described := describe("__cluster_metadata", 0)
	expect.Error(code(described.ErrorCode), nil)
	quorum := described.Topics[0].Partitions[0]
	expect.Error(code(quorum.ErrorCode), nil)
	expect.Equal(quorum.LeaderID, node)
	expect.True(quorum.LeaderEpoch > 0, "leader epoch %d", quorum.LeaderEpoch)
	expect.Equal(len(quorum.CurrentVoters), 1)
	voter := quorum.CurrentVoters[0]
	expect.Equal(voter.ReplicaID, node)
	expect.True(voter.LogEndOffset >= quorum.HighWatermark && quorum.HighWatermark > 0,
		"log end offset %d, high watermark %d", voter.LogEndOffset, quorum.HighWatermark)

	described = describe(c.topic, 0)
	expect.Error(code(described.Topics[0].Partitions[0].ErrorCode), kerr.UnknownTopicOrPartition)
}

// some names partitions of a topic.
func some(topic string, partitions ...int32) kadm.TopicsSet {
	set := kadm.TopicsSet{}
	set.Add(topic, partitions...)
	return set
}

func (c *client) logDirectories() {
	all := expect.Must(c.admin.DescribeAllLogDirs(c.ctx, nil))[node]
	expect.Error(all.Error(), nil)
	_, found := all.LookupPartition(c.records, 0)
	expect.Equal(found, true)
	asked := some(c.topic, 1, 99)
	asked.Add(c.missing, 0)
	described := expect.Must(c.admin.DescribeBrokerLogDirs(c.ctx, node, asked))
	expect.Error(described.Error(), nil)
	expect.Equal(len(described.SortedPartitions()), 1)
	log, found := described.LookupPartition(c.topic, 1)
	expect.Equal(found, true)
	expect.Equal(log.OffsetLag, 0)
	expect.Equal(log.IsFuture, false)
	directory := described[log.Dir]
	expect.True(0 < directory.UsableBytes && directory.UsableBytes <= directory.TotalBytes,
		"%d of %d bytes are usable", directory.UsableBytes, directory.TotalBytes)

	moved := func(directory, topic string, partition int32, wanted error) {
		var moves kadm.AlterReplicaLogDirsReq
		moves.Add(directory, some(topic, partition))
		for _, response := range expect.Must(c.admin.AlterBrokerReplicaLogDirs(c.ctx, node, moves)).Sorted() {
			expect.Equal(response.Partition, partition)
			expect.Error(response.Err, wanted)
		}
	}
	// it is there
	moved(log.Dir, c.topic, 1, nil)
	moved("/no/such/directory", c.topic, 1, kerr.LogDirNotFound)
	moved(log.Dir, c.topic, 99, kerr.UnknownTopicOrPartition)
	moved(log.Dir, c.missing, 0, kerr.UnknownTopicOrPartition)
}

func (c *client) leaders() {
	for _, how := range []kadm.ElectLeadersHow{kadm.ElectPreferredReplica, kadm.ElectLiveReplica} {
		asked := some(c.topic, 1, 99)
		asked.Add(c.missing, 0)
		elected := expect.Must(c.admin.ElectLeaders(c.ctx, how, asked))
		expect.Error(elected[c.topic][1].Err, kerr.ElectionNotNeeded)
		expect.Error(elected[c.topic][99].Err, kerr.UnknownTopicOrPartition)
		expect.Error(elected[c.missing][0].Err, kerr.UnknownTopicOrPartition)
		// of all partitions, those that need none are left out
		for _, partitions := range expect.Must(c.admin.ElectLeaders(c.ctx, how, nil)) {
			expect.Equal(len(partitions), 0)
		}
	}
}

func (c *client) reassignments() {
	var request kadm.AlterPartitionAssignmentsReq
	request.Assign(c.topic, 0, []int32{node})
	request.Assign(c.topic, 1, []int32{7})
	request.Assign(c.topic, 2, []int32{node, node})
	request.CancelAssign(c.topic, 3)
	request.Assign(c.topic, 99, []int32{node})
	request.Assign(c.missing, 0, []int32{node})
	answers := expect.Must(c.admin.AlterPartitionAssignments(c.ctx, request))
	// it is there
	expect.Error(answers[c.topic][0].Err, nil)
	expect.Error(answers[c.topic][1].Err, kerr.InvalidReplicaAssignment)
	expect.Error(answers[c.topic][2].Err, kerr.InvalidReplicaAssignment)
	expect.Error(answers[c.topic][3].Err, kerr.NoReassignmentInProgress)
	expect.Error(answers[c.topic][99].Err, kerr.UnknownTopicOrPartition)
	expect.Error(answers[c.missing][0].Err, kerr.UnknownTopicOrPartition)

	// none is under way
	asked := some(c.topic, 0, 1, 99)
	asked.Add(c.missing, 0)
	listed := expect.Must(c.admin.ListPartitionReassignments(c.ctx, asked))
	expect.Equal(len(listed.Sorted()), 0)
}
