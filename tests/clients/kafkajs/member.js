// A member of a consumer group by kafkajs; ../group_member.py says what it says. kafkajs has eager groups only.
"use strict";

const { parseArgs } = require("node:util");
const { Kafka, logLevel } = require("kafkajs");

const text = { type: "string" };
const { values: options } = parseArgs({
  options: { bootstrap: text, topic: text, group: text, "client-id": text, protocol: text },
});

const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

if (options.protocol !== "roundrobin") throw new Error(`no such protocol: ${options.protocol}`);
const kafka = new Kafka({
  brokers: [options.bootstrap],
  clientId: options["client-id"],
  logLevel: logLevel.ERROR,
  retry: { initialRetryTime: 100, maxRetryTime: 500, retries: 100 },
});
const consumer = kafka.consumer({
  groupId: options.group,
  sessionTimeout: 6000,
  heartbeatInterval: 500,
  maxWaitTimeInMs: 100,
});

let assigned = [];
const giveUp = () => {
  if (assigned.length > 0) say("revoked", { partitions: assigned });
  assigned = [];
};

consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  giveUp();
  assigned = payload.memberAssignment[options.topic] ?? [];
  say("assigned", { partitions: assigned });
});
consumer.on(consumer.events.CRASH, ({ payload }) => {
  say("error", { reason: String(payload.error) });
  if (!payload.restart) process.exit(1);
});

async function eachBatch({ batch, resolveOffset, heartbeat }) {
  const { topic, partition } = batch;
  let first;
  let last;
  const sayRead = () => say("read", { partition, first, last });
  for (const message of batch.messages) {
    const offset = Number(message.offset);
    if (message.value.toString() !== message.offset) {
      throw new Error(`partition ${partition} has ${message.value} at offset ${offset}`);
    }
    if (first === undefined) {
      first = offset;
    } else if (offset !== last + 1) {
      sayRead();
      first = offset;
    }
    last = offset;
  }
  if (first === undefined) return;
  sayRead();
  resolveOffset(String(last));
  try {
    await consumer.commitOffsets([{ topic, partition, offset: String(last + 1) }]);
  } catch (error) {
    say("uncommitted", { reason: String(error) });
    // kafkajs knows what to do about it.
    throw error;
  }
  say("committed", { offsets: { [partition]: last + 1 } });
  await heartbeat();
}

async function leave() {
  await consumer.disconnect();
  giveUp();
  say("left");
  process.exit(0);
}

async function main() {
  await consumer.connect();
  await consumer.subscribe({ topic: options.topic, fromBeginning: true });
  process.stdin.on("end", leave).resume();
  await consumer.run({ autoCommit: false, eachBatch });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
