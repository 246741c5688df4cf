package main

import (
	"slices"
	"strconv"

	"corelane/franz_go/expect"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicConfig is the value that a topic's config has, and where from.
func (c *client) topicConfig(name string) (string, kmsg.ConfigSource) {
	described := expect.Must(c.admin.DescribeTopicConfigs(c.ctx, c.topic))
	resource := expect.Must(described.On(c.topic, nil))
	expect.Error(resource.Err, nil)
	return configOf(resource, name)
}

func configOf(resource kadm.ResourceConfig, name string) (string, kmsg.ConfigSource) {
	for _, config := range resource.Configs {
		if config.Key == name {
			return config.MaybeValue(), config.Source
		}
	}
	expect.True(false, "%s has no config %s", resource.Name, name)
	return "", 0
}

func (c *client) topicConfigBecomes(name, wanted string) {
	expect.Eventually(c.ctx, name+" is "+wanted, func() bool {
		value, _ := c.topicConfig(name)
		return value == wanted
	})
}

// altered is what came of an alteration of one resource.
func altered(responses kadm.AlterConfigsResponses, err error) error {
	expect.Error(err, nil)
	expect.Equal(len(responses), 1)
	for _, response := range responses {
		return response.Err
	}
	return nil
}

func (c *client) topicConfigs() {
	value, source := c.topicConfig("retention.ms")
	expect.Equal(value, "60000")
	expect.Equal(source, kmsg.ConfigSourceDynamicTopicConfig)
	value, source = c.topicConfig("cleanup.policy")
	expect.Equal(value, "delete")
	expect.Equal(source, kmsg.ConfigSourceDefaultConfig)
	described := expect.Must(c.admin.DescribeTopicConfigs(c.ctx, c.missing))
	resource := expect.Must(described.On(c.missing, nil))
	expect.Error(resource.Err, kerr.UnknownTopicOrPartition)

	// Value by value.
	alter := func(op kadm.IncrementalOp, name, value string) error {
		configs := []kadm.AlterConfig{{Op: op, Name: name, Value: text(value)}}
		return altered(c.admin.AlterTopicConfigs(c.ctx, configs, c.topic))
	}
	expect.Error(alter(kadm.SetConfig, "max.message.bytes", "70000"), nil)
	c.topicConfigBecomes("max.message.bytes", "70000")
	expect.Error(alter(kadm.AppendConfig, "cleanup.policy", "compact"), nil)
	c.topicConfigBecomes("cleanup.policy", "delete,compact")
	expect.Error(alter(kadm.SubtractConfig, "cleanup.policy", "delete"), nil)
	c.topicConfigBecomes("cleanup.policy", "compact")
	value, _ = c.topicConfig("retention.ms")
	expect.Equal(value, "60000")
	deleted := []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "cleanup.policy"}}
	expect.Error(altered(c.admin.AlterTopicConfigs(c.ctx, deleted, c.topic)), nil)
	c.topicConfigBecomes("cleanup.policy", "delete")

	expect.Error(alter(kadm.SetConfig, "retention.ms", "soon"), kerr.InvalidConfig)
	expect.Error(alter(kadm.SetConfig, "no.such.config", "1"), kerr.InvalidConfig)
	expect.Error(alter(kadm.AppendConfig, "retention.ms", "1"), kerr.InvalidConfig)
	retention := set("retention.ms", "1")
	expect.Error(altered(c.admin.AlterTopicConfigs(c.ctx, retention, c.missing)), kerr.UnknownTopicOrPartition)
	expect.Error(altered(c.admin.ValidateAlterTopicConfigs(c.ctx, retention, c.topic)), nil)
	wrong := set("retention.ms", "soon")
	expect.Error(altered(c.admin.ValidateAlterTopicConfigs(c.ctx, wrong, c.topic)), kerr.InvalidConfig)

	// All at once, as before Kafka 2.3: what is not named has its default again. The last of them shows that nothing
	// before it has changed anything.
	value, _ = c.topicConfig("retention.ms")
	expect.Equal(value, "60000")
	expect.Error(altered(c.admin.ValidateAlterTopicConfigsState(c.ctx, retention, c.topic)), nil)
	expect.Error(altered(c.admin.AlterTopicConfigsState(c.ctx, wrong, c.topic)), kerr.InvalidConfig)
	unknown := set("no.such.config", "1")
	expect.Error(altered(c.admin.AlterTopicConfigsState(c.ctx, unknown, c.topic)), kerr.InvalidConfig)
	expect.Error(altered(c.admin.AlterTopicConfigsState(c.ctx, retention, c.missing)), kerr.UnknownTopicOrPartition)
	state := set("segment.bytes", "2000000")
	expect.Error(altered(c.admin.AlterTopicConfigsState(c.ctx, state, c.topic)), nil)
	c.topicConfigBecomes("segment.bytes", "2000000")
	_, source = c.topicConfig("retention.ms")
	expect.True(source != kmsg.ConfigSourceDynamicTopicConfig, "retention.ms is still the topic's own")
}

// brokerConfig is the value that a config has on the brokers, or (none named) on all of them, and where from.
func (c *client) brokerConfig(name string, brokers ...int32) (string, kmsg.ConfigSource) {
	described := expect.Must(c.admin.DescribeBrokerConfigs(c.ctx, brokers...))
	expect.Equal(len(described), 1)
	expect.Error(described[0].Err, nil)
	for _, config := range described[0].Configs {
		if config.Key == name {
			return config.MaybeValue(), config.Source
		}
	}
	// for all brokers only what has been set is told
	expect.Equal(len(brokers), 0)
	return "", 0
}

func (c *client) brokerConfigBecomes(name, wanted string, brokers ...int32) {
	expect.Eventually(c.ctx, name+" is "+wanted, func() bool {
		value, _ := c.brokerConfig(name, brokers...)
		return value == wanted
	})
}

func (c *client) brokerConfigs() {
	const name = "log.cleaner.delete.retention.ms"
	before, source := c.brokerConfig(name, node)
	expect.Equal(before, "86400000")
	expect.Equal(source, kmsg.ConfigSourceDefaultConfig)

	// All brokers, then this one: the nearer wins.
	expect.Error(altered(c.admin.AlterBrokerConfigs(c.ctx, set(name, "50000"))), nil)
	c.brokerConfigBecomes(name, "50000")
	c.brokerConfigBecomes(name, "50000", node)
	_, source = c.brokerConfig(name, node)
	expect.Equal(source, kmsg.ConfigSourceDynamicDefaultBrokerConfig)
	expect.Error(altered(c.admin.AlterBrokerConfigs(c.ctx, set(name, "60000"), node)), nil)
	c.brokerConfigBecomes(name, "60000", node)
	_, source = c.brokerConfig(name, node)
	expect.Equal(source, kmsg.ConfigSourceDynamicBrokerConfig)
	// a topic has it from the broker
	c.topicConfigBecomes("delete.retention.ms", "60000")

	refused := func(name, value string, wanted error) {
		expect.Error(altered(c.admin.AlterBrokerConfigs(c.ctx, set(name, value), node)), wanted)
		expect.Error(altered(c.admin.ValidateAlterBrokerConfigs(c.ctx, set(name, value), node)), wanted)
		expect.Error(altered(c.admin.AlterBrokerConfigsState(c.ctx, set(name, value), node)), wanted)
	}
	refused(name, "soon", kerr.InvalidRequest)
	refused("log.dirs", "elsewhere", kerr.InvalidRequest)
	expect.Error(altered(c.admin.ValidateAlterBrokerConfigs(c.ctx, set(name, "70000"), node)), nil)
	value, _ := c.brokerConfig(name, node)
	expect.Equal(value, "60000")

	// All at once: nothing is left of what is not named.
	const other = "log.message.timestamp.type"
	expect.Error(altered(c.admin.AlterBrokerConfigsState(c.ctx, set(other, "LogAppendTime"), node)), nil)
	c.brokerConfigBecomes(other, "LogAppendTime", node)
	c.brokerConfigBecomes(name, "50000", node)
	expect.Error(altered(c.admin.AlterBrokerConfigsState(c.ctx, nil, node)), nil)
	c.brokerConfigBecomes(other, "CreateTime", node)
	deleted := []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: name}}
	expect.Error(altered(c.admin.AlterBrokerConfigs(c.ctx, deleted)), nil)
	c.brokerConfigBecomes(name, before, node)
	c.topicConfigBecomes("delete.retention.ms", before)
}

func (c *client) configResources() {
	listed := expect.Must(c.admin.ListConfigResources(c.ctx))
	expect.Error(listed.Err, nil)
	names := func(kind kadm.ConfigResourceType) []string {
		var names []string
		for _, resource := range listed.FilterTypes(kind) {
			names = append(names, resource.Name)
		}
		return names
	}
	topics := names(kmsg.ConfigResourceTypeTopic)
	expect.True(slices.Contains(topics, c.topic) && slices.Contains(topics, c.records), "not all in %v", topics)
	expect.Equal(names(kmsg.ConfigResourceTypeBroker), []string{strconv.Itoa(int(node))})
	expect.Equal(names(kmsg.ConfigResourceTypeBrokerLogger), []string{strconv.Itoa(int(node))})

	listed = expect.Must(c.admin.ListConfigResources(c.ctx, kmsg.ConfigResourceTypeTopic))
	expect.Error(listed.Err, nil)
	expect.True(slices.Contains(listed.Names(), c.topic), "not in %v", listed.Names())
	expect.Equal(listed.FilterTypes(kmsg.ConfigResourceTypeTopic), listed.Resources)
	listed = expect.Must(c.admin.ListConfigResources(c.ctx, kadm.ConfigResourceType(99)))
	expect.Error(listed.Err, kerr.UnsupportedVersion)
}
