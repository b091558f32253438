/** docs/protocol.md, checked against the code. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fromBinary, fromJsonString, toBinary } from '@bufbuild/protobuf';
import { ClientFrameSchema, ServerFrameSchema } from '@pilotlight/proto/presence/v1/presence_pb.js';
import { comesBack as clientComesBack } from '../../client/src/close-codes.ts';
import { comesBack, sessionEnds } from '../../src/presence/session-ends.ts';

const text = readFileSync(new URL('../../docs/protocol.md', import.meta.url), 'utf8');

describe('docs/protocol.md', () => {
  it('has every close code, its gRPC status and whether to come back, and no other', () => {
    const documented = [...text.matchAll(/^\| `(\d{4})` \| (\w+) \| (\w+) \| (yes|no) \|/gm)].map((row) =>
      row.slice(1, 5),
    );
    const ends = Object.entries(sessionEnds).map(([name, { closeCode, grpcStatus }]) => [
      String(closeCode),
      name,
      grpcStatus,
      comesBack(closeCode) ? 'yes' : 'no',
    ]);
    assert.deepEqual(documented, ends);
  });

  it('has a rule of ranges that server and client share', () => {
    for (let code = 1000; code < 5000; code++) {
      assert.equal(clientComesBack(code), comesBack(code), String(code));
      if (code >= 3000) assert.equal(comesBack(code), code % 1000 < 500, String(code));
    }
  });

  it('has examples whose JSON and bytes are the same frame', () => {
    const examples = [...text.matchAll(/^(\{.*\})\n((?:[0-9a-f]{2} ?)+)$/gm)];
    assert.equal(examples.length, 7);
    for (const [, json, hex] of examples) {
      const schema = /^\{"(?:events|goingAway|ping)|"ack"/.test(json as string)
        ? ServerFrameSchema
        : ClientFrameSchema;
      const bytes = Buffer.from((hex as string).replaceAll(' ', ''), 'hex');
      const frame = fromJsonString(schema, json as string);
      assert.deepEqual(fromBinary(schema, bytes), frame);
      assert.deepEqual(Buffer.from(toBinary(schema, frame)), bytes);
    }
  });
});
