import { FrameReader } from './frames.ts';
import { FieldList, HpackDecoder } from './hpack-decoder.ts';
import { encodeStateless, type HeaderPair, HpackEncoder } from './hpack-encoder.ts';

const head: readonly HeaderPair[] = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/presence.v1.PresenceService/SendHeartbeat'],
  [':authority', '127.0.0.1:50051'],
  ['te', 'trailers'],
  ['content-type', 'application/grpc'],
  ['user-agent', 'grpc-node-js/1.14.7'],
];
const list = new FieldList(16_384, 100);
const stateless = encodeStateless(head);
const statelessDecoder = new HpackDecoder(4096);
const encoder = new HpackEncoder();
const first = encoder.encode(head);
/** As a client sends it from its second request on: everything is in the table. */
const indexed = encoder.encode(head);
const indexedDecoder = new HpackDecoder(4096);
indexedDecoder.decode(first, 0, first.length, list);

const frames = Buffer.concat(
  Array.from({ length: 100 }, () =>
    Buffer.from([0, 0, 12, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 7, 10, 5, 97, 100, 97, 49, 50]),
  ),
);
const sink = { closing: false, onFrame: () => {} };
const reader = new FrameReader(16_384);

export const benchmarks = {
  'hpack: decode a head of literals': (iterations: number) => {
    for (let i = 0; i < iterations; i++) statelessDecoder.decode(stateless, 0, stateless.length, list);
  },
  'hpack: decode a head of indexes': (iterations: number) => {
    for (let i = 0; i < iterations; i++) indexedDecoder.decode(indexed, 0, indexed.length, list);
  },
  'hpack: encode a head': (iterations: number) => {
    for (let i = 0; i < iterations; i++) encoder.encode(head);
  },
  'frames: read 100': (iterations: number) => {
    for (let i = 0; i < iterations; i++) reader.read(frames, 0, sink);
  },
};
