package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var franzChecks = []check{
	{"franz-go: an idempotent producer's records keep order and content with every codec", franzCodecs},
	{"franz-go: keys, headers, tombstones and timestamps come back as they were sent", franzFields},
	{"franz-go: a range group shares partitions and resumes from its commits", franzGroup(kgo.RangeBalancer())},
	{"franz-go: a sticky group shares partitions and resumes from its commits", franzGroup(kgo.StickyBalancer())},
	{"franz-go: a cooperative-sticky group shares partitions and resumes from its commits", franzGroup(kgo.CooperativeStickyBalancer())},
	{"franz-go: a static member comes back to its partitions without a rebalance", franzStatic},
	{"franz-go: topics, configs, records and groups are administered", franzAdmin},
	{"franz-go: offsets are found by time", franzTimes},
	{"franz-go: a producer and a group member go on over a restart of the broker", franzRestart},
}

var compressions = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), limit)
}

func client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap)}, options...)...)
}

func admin() (*kadm.Client, error) {
	client, err := client()
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(client), nil
}

func createTopic(prefix string, partitions int32, configs map[string]*string) (string, error) {
	admin, err := admin()
	if err != nil {
		return "", err
	}
	defer admin.Close()
	ctx, cancel := limited()
	defer cancel()
	topic := unique(prefix)
	created, err := admin.CreateTopic(ctx, partitions, 1, configs, topic)
	if err != nil {
		return "", err
	}
	return topic, equal(partitions, created.NumPartitions, "partitions of the created topic")
}

// Produces and waits for the acknowledgements; the records then know their offsets.
func produceAll(client *kgo.Client, records ...*kgo.Record) error {
	ctx, cancel := limited()
	defer cancel()
	return client.ProduceSync(ctx, records...).FirstErr()
}

func numbered(topic string, partition int32, from, to int) []*kgo.Record {
	var records []*kgo.Record
	for index := from; index < to; index++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(strconv.Itoa(index))})
	}
	return records
}

// Records by poll until there are `count`.
func take(client *kgo.Client, count int) ([]*kgo.Record, error) {
	ctx, cancel := limited()
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return records, fmt.Errorf("%d of %d records: %w", len(records), count, err)
		}
		var failure error
		fetches.EachError(func(_ string, _ int32, err error) { failure = err })
		if failure != nil {
			return records, failure
		}
		records = append(records, fetches.Records()...)
	}
	return records, equal(count, len(records), "records")
}

// Everything in the topic, from the start of each partition to its present end.
func readAll(topic string) ([]*kgo.Record, error) {
	client, err := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := limited()
	defer cancel()
	count := 0
	for sign, list := range map[int]func(context.Context, ...string) (kadm.ListedOffsets, error){
		+1: kadm.NewClient(client).ListEndOffsets,
		-1: kadm.NewClient(client).ListStartOffsets,
	} {
		offsets, err := list(ctx, topic)
		if err == nil {
			err = offsets.Error()
		}
		if err != nil {
			return nil, err
		}
		offsets.Each(func(offset kadm.ListedOffset) { count += sign * int(offset.Offset) })
	}
	return take(client, count)
}

func franzCodecs() error {
	for _, codec := range codecs {
		topic, err := createTopic("codec-"+codec, 1, nil)
		if err != nil {
			return err
		}
		producer, err := client(kgo.ProducerBatchCompression(compressions[codec]), kgo.ProducerLinger(5*time.Millisecond))
		if err != nil {
			return err
		}
		sent := numbered(topic, 0, 0, 1000)
		err = produceAll(producer, sent...)
		producer.Close()
		if err != nil {
			return err
		}
		received, err := readAll(topic)
		if err != nil {
			return err
		}
		for index, record := range received {
			if int(sent[index].Offset) != index || int(record.Offset) != index || string(record.Value) != strconv.Itoa(index) {
				return fmt.Errorf("%s: record %d: acknowledged %d, read %d %q", codec, index, sent[index].Offset, record.Offset, record.Value)
			}
		}
		if err := equal(len(sent), len(received), codec); err != nil {
			return err
		}
	}
	return nil
}

func franzFields() error {
	topic, err := createTopic("fields", 1, nil)
	if err != nil {
		return err
	}
	producer, err := client()
	if err != nil {
		return err
	}
	defer producer.Close()
	headers := []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "null"}}
	at := time.UnixMilli(1_600_000_000_123)
	err = produceAll(producer,
		&kgo.Record{Topic: topic, Key: []byte("key"), Value: []byte("value"), Headers: headers, Timestamp: at},
		&kgo.Record{Topic: topic, Key: []byte("tombstone")})
	if err != nil {
		return err
	}
	received, err := readAll(topic)
	if err != nil {
		return err
	}
	first, second := received[0], received[1]
	return errors.Join(
		equal("key=value", string(first.Key)+"="+string(first.Value), "first"),
		equal(headers, first.Headers, "headers"),
		equal(at.UnixMilli(), first.Timestamp.UnixMilli(), "timestamp"),
		equal("tombstone", string(second.Key), "second"),
		equal(true, second.Value == nil, "a null value"),
	)
}

// A member of a group that polls and commits until it is told to stop.
type member struct {
	client *kgo.Client
	stop   context.CancelFunc
	ended  chan struct{}
	mutex  sync.Mutex
	owned  map[int32]bool
	seen   map[string]int
}

func join(group, topic string, options ...kgo.Opt) (*member, error) {
	ctx, stop := context.WithCancel(context.Background())
	member := &member{stop: stop, ended: make(chan struct{}), owned: map[int32]bool{}, seen: map[string]int{}}
	change := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			member.mutex.Lock()
			defer member.mutex.Unlock()
			for _, partition := range changed[topic] {
				if owned {
					member.owned[partition] = true
				} else {
					delete(member.owned, partition)
				}
			}
		}
	}
	options = append(options,
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(200*time.Millisecond), kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)))
	var err error
	if member.client, err = client(options...); err != nil {
		return nil, err
	}
	go func() {
		defer close(member.ended)
		for ctx.Err() == nil {
			records := member.client.PollFetches(ctx).Records()
			member.mutex.Lock()
			for _, record := range records {
				member.seen[fmt.Sprintf("%d/%s", record.Partition, record.Value)]++
			}
			member.mutex.Unlock()
			// A commit that a rebalance overtook fails; whoever owns the partition then reads it again.
			_ = member.client.CommitRecords(ctx, records...)
		}
	}()
	return member, nil
}

// Ends the polling; with `leave` the member says goodbye to its group.
func (m *member) end(leave bool) {
	m.stop()
	<-m.ended
	if leave {
		m.client.LeaveGroup()
	}
	m.client.Close()
}

func (m *member) partitions() []int32 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	var owned []int32
	for partition := range m.owned {
		owned = append(owned, partition)
	}
	slices.Sort(owned)
	return owned
}

func (m *member) seenCount() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.seen)
}

// Two members share four partitions, read what is written, one leaves, and the commits are where the records end.
func franzGroup(balancer kgo.GroupBalancer) func() error {
	return func() error {
		topic, err := createTopic("group", 4, nil)
		if err != nil {
			return err
		}
		group := unique("group")
		first, err := join(group, topic, kgo.Balancers(balancer))
		if err != nil {
			return err
		}
		if err := until("one member has all", func() (bool, error) { return len(first.partitions()) == 4, nil }); err != nil {
			return err
		}
		second, err := join(group, topic, kgo.Balancers(balancer))
		if err != nil {
			return err
		}
		shared := func() (bool, error) {
			both := append(first.partitions(), second.partitions()...)
			slices.Sort(both)
			return len(first.partitions()) == 2 && slices.Equal(both, []int32{0, 1, 2, 3}), nil
		}
		if err := until("two partitions each", shared); err != nil {
			return err
		}
		producer, err := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			return err
		}
		defer producer.Close()
		for partition := range int32(4) {
			if err := produceAll(producer, numbered(topic, partition, 0, 100)...); err != nil {
				return err
			}
		}
		read := func() (bool, error) { return first.seenCount()+second.seenCount() == 400, nil }
		if err := until("400 records read, none twice", read); err != nil {
			return err
		}
		first.end(true)
		all := func() (bool, error) { return len(second.partitions()) == 4, nil }
		if err := until("the other member takes over", all); err != nil {
			return err
		}
		second.end(true)
		return committed(group, topic, 4, 100)
	}
}

func committed(group, topic string, partitions, at int) error {
	admin, err := admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	ctx, cancel := limited()
	defer cancel()
	offsets, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	for partition := range int32(partitions) {
		offset, found := offsets.Lookup(topic, partition)
		if !found || offset.Err != nil || int(offset.At) != at {
			return fmt.Errorf("partition %d: committed %v", partition, offset)
		}
	}
	return nil
}

func franzStatic() error {
	topic, err := createTopic("static", 4, nil)
	if err != nil {
		return err
	}
	group := unique("static")
	options := func(id string) []kgo.Opt {
		return []kgo.Opt{kgo.InstanceID(id), kgo.SessionTimeout(20 * time.Second), kgo.Balancers(kgo.StickyBalancer())}
	}
	first, err := join(group, topic, options("a")...)
	if err != nil {
		return err
	}
	second, err := join(group, topic, options("b")...)
	if err != nil {
		return err
	}
	shared := func() (bool, error) { return len(first.partitions()) == 2 && len(second.partitions()) == 2, nil }
	if err := until("two partitions each", shared); err != nil {
		return err
	}
	before := second.partitions()
	second.end(false) // A static member is gone only when its session ends.
	again, err := join(group, topic, options("b")...)
	if err != nil {
		return err
	}
	back := func() (bool, error) { return slices.Equal(before, again.partitions()), nil }
	err = errors.Join(until("the same partitions again", back), equal(2, len(first.partitions()), "the other keeps its own"))
	first.end(true)
	again.end(true)
	return err
}

func franzAdmin() error {
	admin, err := admin()
	if err != nil {
		return err
	}
	defer admin.Close()
	ctx, cancel := limited()
	defer cancel()
	topic, err := createTopic("admin", 2, map[string]*string{"retention.ms": kadm.StringPtr("1234")})
	if err != nil {
		return err
	}
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, topic); !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("creating it again: %v", err)
	}
	retention := func(expected string) func() (bool, error) {
		return func() (bool, error) {
			described, err := admin.DescribeTopicConfigs(ctx, topic)
			if err != nil {
				return false, err
			}
			resource, err := described.On(topic, nil)
			if err != nil {
				return false, err
			}
			for _, config := range resource.Configs {
				if config.Key == "retention.ms" {
					return config.MaybeValue() == expected, nil
				}
			}
			return false, errors.New("retention.ms is not described")
		}
	}
	if err := until("retention.ms as created", retention("1234")); err != nil {
		return err
	}
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("777000")}}, topic)
	if err == nil {
		_, err = altered.On(topic, func(response *kadm.AlterConfigsResponse) error { return response.Err })
	}
	if err == nil {
		err = until("retention.ms altered", retention("777000"))
	}
	if err != nil {
		return err
	}
	grown, err := admin.CreatePartitions(ctx, 2, topic)
	if err == nil {
		err = grown.Error()
	}
	if err != nil {
		return err
	}
	topics, err := admin.ListTopics(ctx, topic)
	if err == nil {
		err = equal(4, len(topics[topic].Partitions), "partitions")
	}
	if err != nil {
		return err
	}
	if err := franzDeleteRecords(ctx, admin, topic); err != nil {
		return err
	}
	if err := franzGroups(ctx, admin, topic); err != nil {
		return err
	}
	if _, err := admin.DeleteTopic(ctx, topic); err != nil {
		return err
	}
	_, err = admin.DeleteTopic(ctx, topic)
	return equal(true, errors.Is(err, kerr.UnknownTopicOrPartition), "deleting it again")
}

func franzDeleteRecords(ctx context.Context, admin *kadm.Client, topic string) error {
	producer, err := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer producer.Close()
	if err := produceAll(producer, numbered(topic, 0, 0, 10)...); err != nil {
		return err
	}
	until := kadm.Offsets{}
	until.AddOffset(topic, 0, 5, -1)
	deleted, err := admin.DeleteRecords(ctx, until)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		return err
	}
	row, _ := deleted.Lookup(topic, 0)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	start, _ := starts.Lookup(topic, 0)
	return errors.Join(equal(int64(5), row.LowWatermark, "low watermark"), equal(int64(5), start.Offset, "log start"))
}

func franzGroups(ctx context.Context, admin *kadm.Client, topic string) error {
	group := unique("admin")
	member, err := join(group, topic)
	if err != nil {
		return err
	}
	if err := until("the member owns", func() (bool, error) { return len(member.partitions()) == 4, nil }); err != nil {
		return err
	}
	described, err := admin.DescribeGroups(ctx, group)
	if err != nil {
		return err
	}
	if err := errors.Join(
		equal("Stable", described[group].State, "state"),
		equal("cooperative-sticky", described[group].Protocol, "protocol"),
		equal(1, len(described[group].Members), "members"),
	); err != nil {
		return err
	}
	refused, err := admin.DeleteGroups(ctx, group)
	if err != nil || !errors.Is(refused[group].Err, kerr.NonEmptyGroup) {
		return fmt.Errorf("deleting a group with a member: %v %v", err, refused[group].Err)
	}
	member.end(true)
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 1, 7, -1)
	if err := admin.CommitAllOffsets(ctx, group, offsets); err != nil {
		return err
	}
	fetched, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	offset, _ := fetched.Lookup(topic, 1)
	if err := equal(int64(7), offset.At, "committed from outside"); err != nil {
		return err
	}
	deleted, err := admin.DeleteGroups(ctx, group)
	if err == nil {
		err = deleted[group].Err
	}
	if err != nil {
		return err
	}
	listed, err := admin.ListGroups(ctx)
	if _, found := listed[group]; found || err != nil {
		return fmt.Errorf("after its deletion: listed %v, %v", found, err)
	}
	return nil
}

func franzTimes() error {
	topic, err := createTopic("times", 1, nil)
	if err != nil {
		return err
	}
	producer, err := client()
	if err != nil {
		return err
	}
	defer producer.Close()
	const base = 1_700_000_000_000
	records := numbered(topic, 0, 0, 20)
	for index, record := range records {
		record.Timestamp = time.UnixMilli(base + int64(index)*1000)
	}
	if err := produceAll(producer, records...); err != nil {
		return err
	}
	ctx, cancel := limited()
	defer cancel()
	admin := kadm.NewClient(producer)
	found := func(listed kadm.ListedOffsets, err error) (string, error) {
		offset, _ := listed.Lookup(topic, 0)
		return fmt.Sprintf("%d at %d", offset.Offset, offset.Timestamp), errors.Join(err, offset.Err)
	}
	between, err := found(admin.ListOffsetsAfterMilli(ctx, base+4500, topic))
	if err == nil {
		err = equal(fmt.Sprintf("5 at %d", base+5000), between, "between two records")
	}
	if err != nil {
		return err
	}
	newest, err := found(admin.ListMaxTimestampOffsets(ctx, topic))
	if err == nil {
		err = equal(fmt.Sprintf("19 at %d", base+19_000), newest, "the newest")
	}
	if err != nil {
		return err
	}
	// Past the last one kadm asks for the end.
	past, err := found(admin.ListOffsetsAfterMilli(ctx, base+60_000, topic))
	return errors.Join(err, equal("20 at -1", past, "past the last"))
}

func franzRestart() error {
	topic, err := createTopic("restart", 1, nil)
	if err != nil {
		return err
	}
	producer, err := client(kgo.ProducerLinger(5 * time.Millisecond))
	if err != nil {
		return err
	}
	defer producer.Close()
	member, err := join(unique("restart"), topic)
	if err != nil {
		return err
	}
	defer member.end(true)
	if err := produceAll(producer, numbered(topic, 0, 0, 500)...); err != nil {
		return err
	}
	if err := until("500 read", func() (bool, error) { return member.seenCount() == 500, nil }); err != nil {
		return err
	}
	if err := control("restart"); err != nil {
		return err
	}
	if err := produceAll(producer, numbered(topic, 0, 500, 1000)...); err != nil {
		return err
	}
	if err := until("1000 read", func() (bool, error) { return member.seenCount() == 1000, nil }); err != nil {
		return err
	}
	records, err := readAll(topic)
	if err != nil {
		return err
	}
	for index, record := range records {
		if string(record.Value) != strconv.Itoa(index) {
			return fmt.Errorf("record %d is %q", index, record.Value)
		}
	}
	return equal(1000, len(records), "each record is stored once and in order")
}

func crossWrite() error {
	for _, codec := range codecs {
		producer, err := client(kgo.ProducerBatchCompression(compressions[codec]), kgo.AllowAutoTopicCreation())
		if err != nil {
			return err
		}
		var records []*kgo.Record
		for index := range crossCount {
			records = append(records, &kgo.Record{
				Topic: crossTopic("franz-go", codec),
				Key:   []byte(strconv.Itoa(index)),
				Value: []byte(crossValue("franz-go", codec, index)),
			})
		}
		err = produceAll(producer, records...)
		producer.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func crossRead(writers []string) {
	for _, writer := range writers {
		for _, codec := range codecs {
			records, err := readAll(crossTopic(writer, codec))
			if err == nil {
				err = equal(crossCount, len(records), "records")
			}
			for index, record := range records {
				if err == nil && (string(record.Key) != strconv.Itoa(index) || string(record.Value) != crossValue(writer, codec, index)) {
					err = fmt.Errorf("record %d differs: %q", index, record.Value)
				}
			}
			report(fmt.Sprintf("franz-go reads what %s wrote with %s", writer, codec), err)
		}
	}
}
