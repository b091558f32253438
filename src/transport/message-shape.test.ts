import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import {
  ClientFrameSchema,
  GetMultipleUserStatusRequestSchema,
} from '@pilotlight/proto/presence/v1/presence_pb.js';
import { checkJson, checkProto, maxItems, maxRequestBytes } from './message-shape.ts';

const json = (text: string, items = 100) => checkJson(Buffer.from(text), items);
const watchOf = (users: number, versions = users) =>
  toBinary(
    ClientFrameSchema,
    create(ClientFrameSchema, {
      requestId: 1,
      frame: {
        case: 'watch',
        value: { userIds: Array(users).fill('u'), knownVersions: Array(versions).fill(1n) },
      },
    }),
  );

describe('the shape of messages', () => {
  it('bounds the nesting of JSON, whatever is in its strings', () => {
    json('['.repeat(32) + ']'.repeat(32));
    json(`{"a":"${'[{'.repeat(500)}","b\\"[":"\\\\"}`);
    json(`[${'[],'.repeat(40)}[]]`);
    for (const text of ['['.repeat(33), '{"a":'.repeat(33), `{"\\\\":${'['.repeat(40)}`]) {
      assert.throws(() => json(text), { code: 'INVALID_ARGUMENT', message: /nests deeper/ });
    }
  });

  it('refuses a field that is given twice in one object, however it is written', () => {
    for (const text of [
      '{"a":1,"a":2}',
      '{"a":1,"\\u0061":2}',
      '{"b":{"a":[1,{"c":1}],"a":1}}',
      '[{"a":1},{"b":"x,y","c":[],"b":{}}]',
    ]) {
      assert.throws(() => checkJson(Buffer.from(text), 100), /twice in one object/, text);
    }
    for (const text of [
      '{"a":{"a":{"a":["a","a"]}},"b":{"a":1}}',
      '[{"a":1},{"a":1},"a","a"]',
      '{"a":"{\\"a\\":1,","b":"a"}',
      '{"a" : [ {} , {} ] , "b" : "a"}',
    ]) {
      checkJson(Buffer.from(text), 100);
    }
  });

  it('refuses JSON that is not UTF-8, of which the parser would make another name', () => {
    for (const bytes of ['ff', 'c328', 'eda080']) {
      const json = Buffer.concat([Buffer.from('{"a":"'), Buffer.from(bytes, 'hex'), Buffer.from('"}')]);
      assert.throws(() => checkJson(json, 100), /must be UTF-8/, bytes);
    }
  });

  it('bounds the number of values of JSON', () => {
    json(`[${Array(100).fill('""').join(',')}]`);
    assert.throws(() => json(`[${Array(101).fill('""').join(',')}]`), /more values/);
    assert.throws(() => json(`[${'{},'.repeat(60)}0]`), /more values/);
    json(`["${','.repeat(1_000)}"]`);
  });

  it('bounds the fields of protobuf, also those of messages inside and of packed lists', () => {
    const list = (users: number) =>
      toBinary(
        GetMultipleUserStatusRequestSchema,
        create(GetMultipleUserStatusRequestSchema, { userIds: Array(users).fill('') }),
      );
    checkProto(GetMultipleUserStatusRequestSchema, list(100), 100);
    assert.throws(() => checkProto(GetMultipleUserStatusRequestSchema, list(101), 100), {
      code: 'INVALID_ARGUMENT',
    });
    checkProto(ClientFrameSchema, watchOf(48), 100);
    assert.throws(() => checkProto(ClientFrameSchema, watchOf(60), 100), /more values/);
    assert.throws(() => checkProto(ClientFrameSchema, watchOf(1, 100), 100), /more values/);
    const unknown = new BinaryWriter();
    for (let field = 0; field < 101; field++) unknown.tag(1000, WireType.Varint).uint32(1);
    assert.throws(() => checkProto(ClientFrameSchema, unknown.finish(), 100), /more values/);
    const groups = Buffer.alloc(101, 0x3b);
    assert.throws(() => checkProto(ClientFrameSchema, groups, 100), /more values/);
  });

  it('leaves what is no protobuf to the parser', () => {
    for (const bytes of [
      [0x0a],
      [0x0a, 0xff],
      [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
      [0xff],
      [0x09, 1],
      [0x07],
    ]) {
      checkProto(ClientFrameSchema, Uint8Array.from(bytes), 100);
    }
  });

  it('takes the largest message that the limits allow', () => {
    const bounds = { maxWatchedUsers: 10_000, maxBulkUsers: 5_000, maxBlockedUsers: 1_000 };
    const largest = toBinary(
      ClientFrameSchema,
      create(ClientFrameSchema, {
        requestId: 1,
        frame: {
          case: 'watch',
          value: {
            userIds: Array(10_000).fill('u'.repeat(128)),
            knownVersions: Array(10_000).fill(BigInt(Number.MAX_SAFE_INTEGER)),
          },
        },
      }),
    );
    checkProto(ClientFrameSchema, largest, maxItems(bounds));
    assert.ok(largest.length <= maxRequestBytes(bounds.maxWatchedUsers), `${largest.length} bytes`);
  });
});
