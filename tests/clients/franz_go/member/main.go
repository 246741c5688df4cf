// Command member is a member of a consumer group by franz-go; ../../group_member.py says what it says.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// batch is how many records one poll gives, at most.
const batch = 1000

func main() {
	bootstrap := flag.String("bootstrap", "", "host:port of a broker")
	topic := flag.String("topic", "", "the topic to read")
	group := flag.String("group", "", "the group to be in")
	clientID := flag.String("client-id", "", "the client's name")
	protocol := flag.String("protocol", "", "range, cooperative-sticky or consumer")
	flag.Parse()

	m := &member{topic: *topic}
	options := []kgo.Opt{
		kgo.SeedBrokers(*bootstrap),
		kgo.ClientID(*clientID),
		kgo.ConsumerGroup(*group),
		kgo.ConsumeTopics(*topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Commits wait while the group is rebalanced, and reading does not wait for them. What has been polled is
		// committed before partitions go.
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(100 * time.Millisecond),
		kgo.AutoCommitCallback(m.answered),
		kgo.BlockRebalanceOnPoll(),
		kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.SessionTimeout(6 * time.Second),
		kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			m.sayPartitions("assigned", assigned)
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, revoked map[string][]int32) {
			for tries := 0; tries < 5 && !m.commit(ctx, client); tries++ {
			}
			m.sayPartitions("revoked", revoked)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			m.sayPartitions("lost", lost)
		}),
	}
	switch *protocol {
	case "range":
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	case "cooperative-sticky":
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	case "consumer":
		options = append(options, kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer())
	default:
		fail("no such protocol: %q", *protocol)
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		fail("%v", err)
	}
	ctx, leave := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		leave()
	}()
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, batch)
		m.take(client, fetches)
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	say(map[string]any{"event": "left"})
}

type member struct {
	topic string
}

func (m *member) take(client *kgo.Client, fetches kgo.Fetches) {
	fetches.EachError(func(_ string, _ int32, err error) {
		say(map[string]any{"event": "error", "reason": err.Error()})
	})
	fetches.EachPartition(func(partition kgo.FetchTopicPartition) {
		records := partition.Records
		for first := 0; first < len(records); {
			last := first
			for last+1 < len(records) && records[last+1].Offset == records[last].Offset+1 {
				last++
			}
			for _, record := range records[first : last+1] {
				if string(record.Value) != strconv.FormatInt(record.Offset, 10) {
					fail("partition %d has %q at offset %d", record.Partition, record.Value, record.Offset)
				}
			}
			from, to := records[first].Offset, records[last].Offset
			say(map[string]any{"event": "read", "partition": partition.Partition, "first": from, "last": to})
			client.MarkCommitRecords(records[last])
			first = last + 1
		}
	})
}

// commit commits what has been read; whether that was answered well.
func (m *member) commit(ctx context.Context, client *kgo.Client) bool {
	offsets := client.MarkedOffsets()
	if len(offsets) == 0 {
		return true
	}
	done := true
	client.CommitOffsetsSync(ctx, offsets,
		func(_ *kgo.Client, request *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error) {
			m.answered(client, request, answer, err)
			done = err == nil && refused(answer) == nil
		})
	return done
}

func (m *member) answered(
	_ *kgo.Client, request *kmsg.OffsetCommitRequest, answer *kmsg.OffsetCommitResponse, err error,
) {
	if err == nil {
		err = refused(answer)
	}
	if err != nil {
		say(map[string]any{"event": "uncommitted", "reason": err.Error()})
		return
	}
	offsets := map[int32]int64{}
	for _, topic := range request.Topics {
		for _, partition := range topic.Partitions {
			offsets[partition.Partition] = partition.Offset
		}
	}
	say(map[string]any{"event": "committed", "offsets": offsets})
}

func refused(answer *kmsg.OffsetCommitResponse) error {
	for _, topic := range answer.Topics {
		for _, partition := range topic.Partitions {
			if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *member) sayPartitions(event string, partitions map[string][]int32) {
	// JSON has no list in a nil slice.
	say(map[string]any{"event": event, "partitions": append([]int32{}, partitions[m.topic]...)})
}

var stdout sync.Mutex

func say(event map[string]any) {
	stdout.Lock()
	defer stdout.Unlock()
	line, err := json.Marshal(event)
	if err != nil {
		fail("%v", err)
	}
	fmt.Println(string(line))
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}
