import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GrpcError, Status } from './errors.ts';
import {
  isGrpcContentType,
  parseTimeoutMs,
  percentEncode,
  responseContentType,
  statusFields,
  toGrpcError,
} from './grpc-wire.ts';
import { readFields, utf8 } from './protobuf-lite.ts';

test('grpc-timeout: every unit, and the longest number', () => {
  for (const [text, ms] of [
    ['1H', 3_600_000],
    ['2M', 120_000],
    ['3S', 3_000],
    ['4m', 4],
    ['5u', 0.005],
    ['6n', 0.000_006],
    ['0S', 0],
    ['00000001m', 1],
    ['99999999H', 359_999_996_400_000],
  ] as const) {
    const parsed = parseTimeoutMs(text);
    if (text === '00000001m') assert.equal(parsed, 1, '8 digits with leading zeros');
    else assert.equal(parsed, ms, text);
  }
});

test('grpc-timeout: what breaks the grammar', () => {
  for (const text of [
    '',
    'S',
    '1',
    '1s',
    '1h',
    '-1S',
    '+1S',
    '1 S',
    ' 1S',
    '1S ',
    '1.5S',
    '123456789S',
    '1SS',
    '0x1S',
  ]) {
    assert.equal(parseTimeoutMs(text), undefined, JSON.stringify(text));
  }
});

test('content types', () => {
  for (const text of [
    'application/grpc',
    'application/grpc+proto',
    'application/grpc;charset=utf-8',
    'APPLICATION/GRPC',
  ]) {
    assert.equal(isGrpcContentType(text), true, text);
    assert.notEqual(responseContentType(text), undefined, text);
  }
  for (const text of [
    undefined,
    '',
    'application/json',
    'application/grpc-web',
    'application/grpc-web+proto',
    'application/grpcx',
  ]) {
    assert.equal(isGrpcContentType(text), false, String(text));
    assert.equal(responseContentType(text), undefined, String(text));
  }
  assert.equal(isGrpcContentType('application/grpc+json'), true);
  assert.equal(responseContentType('application/grpc+json'), undefined);
  assert.equal(responseContentType('application/grpc+proto;x=y'), 'application/grpc+proto');
});

test('percent-encoding: the string of the interop suite', () => {
  assert.equal(
    percentEncode('\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n'),
    '%09%0Atest with whitespace%0D%0Aand Unicode BMP %E2%98%BA and non-BMP %F0%9F%98%88%09%0A',
  );
  assert.equal(percentEncode('100 %'), '100 %25');
  assert.equal(percentEncode('\ud800'), '%EF%BF%BD', 'a lone surrogate is U+FFFD');
});

test('percent-encoding: printable ASCII only, and decodes to what went in', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      const encoded = percentEncode(text);
      assert.match(encoded, /^[\x20-\x7e]*$/);
      assert.equal(decodeURIComponent(encoded), text);
    }),
  );
});

test('statusFields: details carry the same code and message', () => {
  const detail = { typeUrl: 'type.googleapis.com/x.Y', value: Buffer.from([1, 2, 3]) };
  const fields = new Map<string, string>(statusFields(Status.NOT_FOUND, 'no such ☺', [detail]));
  assert.equal(fields.get('grpc-status'), '5');
  assert.equal(fields.get('grpc-message'), 'no such %E2%98%BA');
  const base64 = fields.get('grpc-status-details-bin') as string;
  assert.doesNotMatch(base64, /=/);
  const [code, message, any] = [...readFields(Buffer.from(base64, 'base64'))];
  assert.equal(code?.varint, 5);
  assert.equal(utf8(message?.bytes as Uint8Array), 'no such ☺');
  const [typeUrl, value] = [...readFields(any?.bytes as Uint8Array)];
  assert.equal(utf8(typeUrl?.bytes as Uint8Array), detail.typeUrl);
  assert.deepEqual(Buffer.from(value?.bytes as Uint8Array), detail.value);
});

test('statusFields: a message that begins or ends with a blank is still a legal field value', () => {
  const message = new Map<string, string>(statusFields(Status.UNKNOWN, ' x ', []) as [string, string][]).get(
    'grpc-message',
  );
  assert.equal(message, '%20x%20');
});

test('toGrpcError keeps GrpcErrors and hides everything else', () => {
  const known = new GrpcError(Status.ABORTED, 'mine');
  assert.equal(toGrpcError(known), known);
  const cause = new Error('password is hunter2');
  const hidden = toGrpcError(cause);
  assert.equal(hidden.status, Status.UNKNOWN);
  assert.equal(hidden.cause, cause);
  assert.doesNotMatch(hidden.message, /hunter2/);
});
