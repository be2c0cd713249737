import assert from "node:assert/strict";
import { test } from "node:test";
import { parseEvent, type RunEvent } from "./events.ts";
import { createRunMetrics, prometheusText } from "./prometheus.ts";
import { crc32c, tensorboardRecord, tensorboardRecords } from "./tensorboard.ts";

const time = "2026-01-01T00:00:00.000Z";
const event = (value: object): RunEvent => parseEvent(JSON.stringify({ time, ...value }))!;
const events = [
  event({ type: "start", step: 0, tokens: 0, attempt: 1 }),
  event({
    type: "step",
    step: 7,
    tokens: 100,
    loss: 3.5,
    learningRate: 0.01,
    gradientNorm: 0.5,
    ms: 10,
    tokensPerSecond: 99,
  }),
  event({
    type: "validation",
    step: 7,
    tokens: 100,
    nats: 3.25,
    bitsPerCharacter: 4.5,
    sources: { 'a"b\\': { nats: 3, tokens: 9 } },
  }),
  event({ type: "sample", step: 7, samples: [{ prompt: "春天", text: "来了" }] }),
  event({ type: "intervention", step: 7, action: "skip", reason: "NaN" }),
  event({ type: "intervention", step: 8, action: "skip", reason: "NaN" }),
];

test("CRC-32C as published: 123456789 gives e3069283", () => {
  assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
});

test("a record is length, checksum, data, checksum", () => {
  const record = tensorboardRecord(Buffer.from("abc"));
  assert.equal(record.length, 19);
  assert.equal(record.readBigUInt64LE(0), 3n);
  assert.equal(record.toString("latin1", 12, 15), "abc");
  const masked = (bytes: Uint8Array) => {
    const crc = crc32c(bytes);
    return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  };
  assert.equal(record.readUInt32LE(8), masked(record.subarray(0, 8)));
  assert.equal(record.readUInt32LE(15), masked(record.subarray(12, 15)));
});

test("a version first, then one record for each event that has values", async () => {
  const records = await Array.fromAsync(tensorboardRecords(events));
  assert.equal(records.length, 6);
  assert.match(records[0]!.toString("latin1"), /brain\.Event:2/);
  const text = Buffer.concat(records).toString("utf8");
  for (const tag of [
    "loss/train",
    "optimizer/learning_rate",
    "loss/validation",
    "bits_per_character/validation",
    "samples/0",
    "春天",
    "events/intervention",
  ]) {
    assert.ok(text.includes(tag), tag);
  }
  assert.equal((await Array.fromAsync(tensorboardRecords([]))).length, 0);
});

test("Prometheus: each metric once with help and type, labels escaped, the newest values", () => {
  const metrics = createRunMetrics();
  for (const each of events) metrics.add(each);
  const text = prometheusText([{ run: { id: "r1", name: "第一\n次" }, metrics }], { cpm_live_viewers: 3 });
  const lines = text.trimEnd().split("\n");
  assert.ok(lines.includes('cpm_loss_nats{run="r1",name="第一\\n次"} 3.5'));
  assert.ok(lines.includes('cpm_validation_nats{run="r1",name="第一\\n次",source="a\\"b\\\\"} 3'));
  assert.ok(lines.includes('cpm_interventions_total{run="r1",name="第一\\n次",action="skip"} 2'));
  assert.ok(lines.includes('cpm_running{run="r1",name="第一\\n次"} 1'));
  assert.ok(lines.includes("cpm_live_viewers 3"));
  const types = lines.filter((line) => line.startsWith("# TYPE")).map((line) => line.split(" ")[2]);
  assert.equal(new Set(types).size, types.length);
  for (const line of lines.filter((each) => !each.startsWith("#")))
    assert.match(line, /^[a-z_]+(\{.*\})? -?[\d.e+-]+$/);
});
