package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/IBM/sarama"
)

// Sarama takes its versions from its own setting and not from the broker, so old and new ones are tried.
var saramaChecks = []check{
	{"sarama as of Kafka 0.11: records are produced, consumed and committed", saramaSession(sarama.V0_11_0_0)},
	{"sarama as of Kafka 1.0: records are produced, consumed and committed", saramaSession(sarama.V1_0_0_0)},
	{"sarama's default version: records are produced, consumed and committed", saramaSession(sarama.DefaultVersion)},
	{"sarama's newest version: records are produced, consumed and committed", saramaSession(sarama.MaxVersion)},
}

var saramaCodecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

func saramaConfig(version sarama.KafkaVersion) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = version
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	return config
}

func saramaSession(version sarama.KafkaVersion) func() error {
	return func() error {
		addresses, config := []string{bootstrap}, saramaConfig(version)
		admin, err := sarama.NewClusterAdmin(addresses, config)
		if err != nil {
			return err
		}
		defer admin.Close()
		topic, group := unique("sarama"), unique("sarama")
		if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1}, false); err != nil {
			return err
		}
		count := 0
		for _, codec := range codecs {
			if codec == "zstd" && !version.IsAtLeast(sarama.V2_1_0_0) {
				continue
			}
			config.Producer.Compression = saramaCodecs[codec]
			producer, err := sarama.NewSyncProducer(addresses, config)
			if err != nil {
				return err
			}
			var messages []*sarama.ProducerMessage
			for index := range 100 {
				text := sarama.StringEncoder(codec + strconv.Itoa(index))
				messages = append(messages, &sarama.ProducerMessage{Topic: topic, Key: text, Value: text})
			}
			err = producer.SendMessages(messages)
			producer.Close()
			if err != nil {
				return fmt.Errorf("%s: %w", codec, err)
			}
			count += len(messages)
		}
		if err := saramaConsume(addresses, config, group, topic, count); err != nil {
			return err
		}
		return saramaAdmin(admin, group, topic, count)
	}
}

// Hands out what it sees. Offsets are committed when the session ends: a commit by record would wait for the long
// poll before it on the same connection, here as with Kafka.
type saramaHandler struct {
	seen chan string
}

func (saramaHandler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (saramaHandler) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (h saramaHandler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		if string(message.Key) != string(message.Value) {
			return fmt.Errorf("offset %d: key %q, value %q", message.Offset, message.Key, message.Value)
		}
		session.MarkMessage(message, "")
		h.seen <- string(message.Value)
	}
	return nil
}

func saramaConsume(addresses []string, config *sarama.Config, group, topic string, count int) error {
	consumer, err := sarama.NewConsumerGroup(addresses, group, config)
	if err != nil {
		return err
	}
	ctx, cancel := limited()
	defer cancel()
	handler, ended := saramaHandler{make(chan string, count)}, make(chan error, 1)
	go func() { ended <- consumer.Consume(ctx, []string{topic}, handler) }()
	seen := map[string]bool{}
	for len(seen) < count {
		select {
		case value := <-handler.seen:
			seen[value] = true
		case err := <-ended:
			return errors.Join(err, consumer.Close(), fmt.Errorf("ended after %d of %d records", len(seen), count))
		}
	}
	cancel()
	err = <-ended
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, consumer.Close())
}

func saramaAdmin(admin sarama.ClusterAdmin, group, topic string, count int) error {
	offsets, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1}})
	if err != nil {
		return err
	}
	committed := 0
	for partition := range int32(2) {
		block := offsets.GetBlock(topic, partition)
		if block == nil || block.Err != sarama.ErrNoError {
			return fmt.Errorf("no commit of partition %d: %v", partition, block)
		}
		committed += int(block.Offset)
	}
	if err := equal(count, committed, "committed"); err != nil {
		return err
	}
	described, err := admin.DescribeConsumerGroups([]string{group})
	if err == nil {
		err = equal("Empty", described[0].State, "state of the group")
	}
	if err == nil {
		err = admin.DeleteRecords(topic, map[int32]int64{0: 1})
	}
	if err == nil {
		err = admin.DeleteTopic(topic)
	}
	return err
}
