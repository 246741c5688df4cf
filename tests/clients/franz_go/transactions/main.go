// Command transactions is transactions by franz-go: write, fence and transform of ../../transactions.py.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"reflect"
	"time"

	"corelane/franz_go/expect"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	rounds  = 30
	records = 20
	batch   = 50
)

type program struct {
	ctx                             context.Context
	bootstrap, topic, output, group string
	partitions                      int
	count                           int64
}

func main() {
	if len(os.Args) < 2 {
		usage()
	}
	p := &program{}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.StringVar(&p.bootstrap, "bootstrap", "", "host:port of a broker")
	flags.StringVar(&p.topic, "topic", "", "what is written, or read to be transformed")
	flags.StringVar(&p.output, "output", "", "where that is written to")
	flags.StringVar(&p.group, "group", "", "of readers; also the transactional id, or what that begins with")
	flags.IntVar(&p.partitions, "partitions", 0, "of the topics")
	flags.Int64Var(&p.count, "count", 0, "how many records are transformed")
	_ = flags.Parse(os.Args[2:])

	ctx, cancel := expect.Context()
	defer cancel()
	p.ctx = ctx
	switch os.Args[1] {
	case "write":
		p.write()
	case "fence":
		p.fence()
	case "transform":
		p.transform()
	default:
		usage()
	}
	expect.Done()
}

func usage() {
	fmt.Fprintln(os.Stderr, "transactions write|fence|transform OPTIONS")
	os.Exit(2)
}

func (p *program) producing(name string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(p.bootstrap),
		kgo.TransactionalID(name),
		kgo.TransactionTimeout(20 * time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}
}

// producer has asked for its producer id, so that whoever had its name is fenced.
func (p *program) producer() *kgo.Client {
	producer := expect.Must(kgo.NewClient(p.producing(p.group)...))
	p.identify(producer)
	return producer
}

func (p *program) identify(producer *kgo.Client) {
	_, _, err := producer.ProducerID(p.ctx)
	must(err)
}

func must(err error) {
	expect.Must(struct{}{}, err)
}

func acknowledged(_ *kgo.Record, err error) {
	expect.Error(err, nil)
}

// lists has one for each partition.
func (p *program) lists() [][]string {
	return make([][]string, p.partitions)
}

// readAll is the values of each partition up to where such readers get.
func (p *program) readAll(isolation kgo.IsolationLevel) [][]string {
	starts := map[int32]kgo.Offset{}
	for partition := range p.partitions {
		starts[int32(partition)] = kgo.NewOffset().AtStart()
	}
	client := expect.Must(kgo.NewClient(
		kgo.SeedBrokers(p.bootstrap),
		kgo.FetchIsolationLevel(isolation),
		kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{p.topic: starts}),
		// The last offset of a transaction is its marker's.
		kgo.KeepControlRecords(),
	))
	defer client.Close()
	list := kadm.NewClient(client).ListEndOffsets
	if isolation == kgo.ReadCommitted() {
		list = kadm.NewClient(client).ListCommittedOffsets
	}
	ends := expect.Must(list(p.ctx, p.topic))
	left := map[int32]bool{}
	ends.Each(func(end kadm.ListedOffset) {
		must(end.Err)
		if end.Offset > 0 {
			left[end.Partition] = true
		}
	})
	values := p.lists()
	for len(left) > 0 {
		fetches := client.PollFetches(p.ctx)
		must(fetches.Err())
		fetches.EachRecord(func(record *kgo.Record) {
			if !record.Attrs.IsControl() {
				values[record.Partition] = append(values[record.Partition], string(record.Value))
			}
			if end, _ := ends.Lookup(p.topic, record.Partition); record.Offset+1 >= end.Offset {
				delete(left, record.Partition)
			}
		})
	}
	return values
}

// eventuallyReads waits: the last transaction's end may still be on its way to some partitions.
func (p *program) eventuallyReads(isolation kgo.IsolationLevel, wanted [][]string) {
	expect.Eventually(p.ctx, fmt.Sprintf("read %v", wanted), func() bool {
		return reflect.DeepEqual(p.readAll(isolation), wanted)
	})
}

func (p *program) write() {
	producer := p.producer()
	defer producer.Close()
	all, committed := p.lists(), p.lists()
	for round := range rounds {
		commits := kgo.TransactionEndTry(round%3 != 2)
		must(producer.BeginTransaction())
		for i := range records {
			partition, value := i%p.partitions, fmt.Sprintf("%d:%d", round, i)
			producer.Produce(p.ctx, p.record(p.topic, int32(partition), value), acknowledged)
			all[partition] = append(all[partition], value)
			if commits {
				committed[partition] = append(committed[partition], value)
			}
		}
		must(producer.Flush(p.ctx))
		must(producer.EndTransaction(p.ctx, commits))
	}
	p.eventuallyReads(kgo.ReadCommitted(), committed)
	expect.Equal(p.readAll(kgo.ReadUncommitted()), all)
}

func (p *program) record(topic string, partition int32, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}
}

func (p *program) fence() {
	first := p.producer()
	defer first.Close()
	must(first.BeginTransaction())
	must(first.ProduceSync(p.ctx, p.record(p.topic, 0, "first")).FirstErr())
	second := p.producer()
	defer second.Close()
	expect.Error(first.EndTransaction(p.ctx, kgo.TryCommit), kerr.ProducerFenced)
	must(second.BeginTransaction())
	must(second.ProduceSync(p.ctx, p.record(p.topic, 0, "second")).FirstErr())
	must(second.EndTransaction(p.ctx, kgo.TryCommit))
	wanted := p.lists()
	wanted[0] = []string{"second"}
	p.eventuallyReads(kgo.ReadCommitted(), wanted)
}

func (p *program) transform() {
	session := expect.Must(kgo.NewGroupTransactSession(append(p.producing(p.group+"-transform"),
		kgo.ConsumerGroup(p.group),
		kgo.ConsumeTopics(p.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(100*time.Millisecond),
		kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(500*time.Millisecond),
	)...))
	defer session.Close()
	// A predecessor's transaction is ended before anybody asks for the offsets that it may have committed: they are not
	// told while it is open.
	p.identify(session.Client())
	for number := 1; ; number++ {
		fetches := session.PollRecords(p.ctx, batch)
		must(p.ctx.Err())
		fetches.EachError(func(_ string, _ int32, err error) {
			// The client tries again by itself.
			fmt.Fprintln(os.Stderr, err)
		})
		if fetches.NumRecords() == 0 {
			continue
		}
		must(session.Begin())
		refused := false
		fetches.EachRecord(func(record *kgo.Record) {
			value := p.record(p.output, record.Partition, string(record.Value))
			session.Produce(p.ctx, value, func(_ *kgo.Record, err error) { refused = refused || err != nil })
		})
		must(session.Client().Flush(p.ctx))
		committed, err := session.End(p.ctx, kgo.TransactionEndTry(!refused && number%5 != 0))
		must(err)
		if !committed {
			// The session reads again what was read since the last commit.
			continue
		}
		fmt.Println("transaction")
		done := int64(0)
		for _, offset := range session.Client().CommittedOffsets()[p.topic] {
			done += offset.Offset
		}
		if done == p.count {
			return
		}
	}
}
