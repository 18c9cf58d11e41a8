// What the Node client programs share: named checks, broker control, codecs and the content that clients exchange.
//
// A program prints one line a check, `ok - NAME` or `not ok - NAME # REASON` (`ok - NAME # SKIP REASON` for a skip);
// `cargo xtask test` counts them. The broker's address comes in BOOTSTRAP, that of the control socket in CONTROL.

import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import kafkajs from "kafkajs";
import lz4 from "lz4-napi";
import snappy from "snappyjs";
import * as zstd from "@bokuweb/zstd-wasm";

export const BOOTSTRAP = process.env.BOOTSTRAP;
export const CODECS = ["none", "gzip", "snappy", "lz4", "zstd"];
export const CROSS_COUNT = 300;

const XERIAL_HEADER = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1]);

/** Snappy as Kafka's Java client frames it: a header, then blocks with a 32-bit length before each. */
const xerial = {
  async compress(encoder) {
    const body = Buffer.from(snappy.compress(encoder.buffer));
    const length = Buffer.alloc(4);
    length.writeInt32BE(body.length);
    return Buffer.concat([XERIAL_HEADER, length, body]);
  },
  async decompress(buffer) {
    if (!buffer.subarray(0, 8).equals(XERIAL_HEADER.subarray(0, 8))) return Buffer.from(snappy.uncompress(buffer));
    const blocks = [];
    for (let at = XERIAL_HEADER.length; at < buffer.length; ) {
      const length = buffer.readInt32BE(at);
      blocks.push(Buffer.from(snappy.uncompress(buffer.subarray(at + 4, at + 4 + length))));
      at += 4 + length;
    }
    return Buffer.concat(blocks);
  },
};

export async function installCodecs() {
  await zstd.init();
  const { CompressionCodecs, CompressionTypes } = kafkajs;
  CompressionCodecs[CompressionTypes.Snappy] = () => xerial;
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: (encoder) => lz4.compressFrame(encoder.buffer),
    decompress: (buffer) => lz4.decompressFrame(buffer),
  });
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer, 3)),
    decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
  });
}

export class Skip extends Error {}

/** Runs `{promise: function}` in order; returns whether all held. */
export async function runChecks(prefix, checks, only) {
  let fine = true;
  for (const [promise, body] of Object.entries(checks)) {
    const name = `${prefix}: ${promise}`;
    if (only && !name.includes(only)) continue;
    const started = Date.now();
    try {
      await body();
      console.log(`ok - ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
    } catch (error) {
      if (error instanceof Skip) {
        console.log(`ok - ${name} # SKIP ${error.message}`);
        continue;
      }
      fine = false;
      console.log(`not ok - ${name} # ${String(error).replace(/\s+/g, " ").slice(0, 600)}`);
      console.error(error);
    }
  }
  return fine;
}

export const unique = (prefix) => `${prefix}-${randomBytes(4).toString("hex")}`;
export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Polls until `condition` gives something true; the limit only bounds a failure. */
export async function until(condition, seconds, what) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (deadline <= Date.now()) throw new Error(`not within ${seconds} s: ${what}`);
    await pause(50);
  }
}

/** Sends one command to the control socket and resolves to its number. */
export function control(command) {
  if (!process.env.CONTROL) throw new Skip("no control socket");
  const [host, port] = process.env.CONTROL.split(":");
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), host, () => socket.write(`${command}\n`));
    socket.on("error", reject);
    createInterface({ input: socket }).on("line", (line) => {
      socket.end();
      const [word, ...rest] = line.split(" ");
      if (word === "ok") resolve(Number(rest[0]));
      else reject(new Error(`${command}: ${rest.join(" ")}`));
    });
  });
}

export const crossTopic = (writer, codec) => `cross-${writer}-${codec}`;
export const crossValue = (writer, codec, index) => `${writer}/${codec}/${index};`.repeat((index % 20) + 1);

/** `messages`: [key, value] strings in order of arrival. */
export function crossVerify(reader, writer, codec, messages) {
  const name = `${reader} reads what ${writer} wrote with ${codec}`;
  let problem = messages.length === CROSS_COUNT ? null : `expected ${CROSS_COUNT} messages, got ${messages.length}`;
  messages.forEach(([key, value], index) => {
    if (!problem && (key !== String(index) || value !== crossValue(writer, codec, index))) {
      problem = `message ${index} differs: ${key} ${value}`.slice(0, 300);
    }
  });
  console.log(problem ? `not ok - ${name} # ${problem}` : `ok - ${name}`);
  return !problem;
}
