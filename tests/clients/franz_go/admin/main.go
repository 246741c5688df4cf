// Command admin does each operation of kadm's that concerns topics, partitions, configs, records, log directories and
// the cluster, and provokes the main error of each. What kadm lacks goes out as a plain request of kmsg.
//
// It expects a node 1 on its own, and leaves the topics and configs as it has found them.
package main

import (
	"context"
	"flag"
	"time"

	"corelane/franz_go/expect"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The one broker.
const node = int32(1)

// client is what every part of the program speaks with.
type client struct {
	ctx   context.Context
	admin *kadm.Client
	plain *kgo.Client
	// Three topics: most is done to the first, records go into the second, the third does not exist.
	topic, records, missing string
}

func main() {
	bootstrap := flag.String("bootstrap", "localhost:9092", "host:port of a broker")
	prefix := flag.String("prefix", "admin", "the names of topics begin with it")
	flag.Parse()
	ctx, cancel := expect.Context()
	defer cancel()
	// Metadata is looked at right behind what changes it.
	plain := expect.Must(kgo.NewClient(kgo.SeedBrokers(*bootstrap), kgo.MetadataMinAge(10*time.Millisecond)))
	defer plain.Close()
	client := &client{
		ctx:     ctx,
		admin:   kadm.NewClient(plain),
		plain:   plain,
		topic:   *prefix + "-topic",
		records: *prefix + "-records",
		missing: *prefix + "-missing",
	}

	client.createTopics()
	client.createPartitions()
	client.topicConfigs()
	client.brokerConfigs()
	client.configResources()
	client.cluster()
	client.features()
	client.quorum()
	client.logDirectories()
	client.leaders()
	client.reassignments()
	client.produceAndConsume()
	client.offsets()
	client.leaderEpochs()
	client.deleteRecords()
	client.deleteTopics()
	expect.Done()
}

// text is a config's value.
func text(value string) *string { return &value }

// set, on its own, is what most alterations are.
func set(name, value string) []kadm.AlterConfig {
	return []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: text(value)}}
}

// code is the error of a plain response.
func code(of int16) error { return kerr.ErrorForCode(of) }
