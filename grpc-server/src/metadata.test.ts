import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HeaderField } from './header-field.ts';
import { encodeMetadataEntry, hasValidBinaryFields, Metadata, MetadataError } from './metadata.ts';

const fields = (pairs: [string, string][]): HeaderField[] =>
  pairs.map(([name, value]) => new HeaderField(name, value));

test('what belongs to the protocol is not metadata', () => {
  const metadata = new Metadata(
    fields([
      [':path', '/a/b'],
      ['content-type', 'application/grpc'],
      ['te', 'trailers'],
      ['grpc-timeout', '1S'],
      ['grpc-trace-bin', 'AAAA'],
      ['user-agent', 'me'],
      ['x-own', '1'],
      ['x-own', '2'],
      ["odd'name", 'x'],
    ]),
  );
  assert.deepEqual(
    [...metadata],
    [
      ['user-agent', 'me'],
      ['x-own', '1'],
      ['x-own', '2'],
    ],
  );
  assert.equal(metadata.get('x-own'), '1');
  assert.deepEqual(metadata.getAll('x-own'), ['1', '2']);
  assert.equal(metadata.get('grpc-timeout'), undefined);
  assert.equal(metadata.get('te'), undefined);
});

test('-bin values: padded, unpadded, joined with commas', () => {
  const metadata = new Metadata(
    fields([
      ['x-bin', 'qw==, q80,AQID'],
      ['x-bin', ''],
    ]),
  );
  assert.deepEqual(
    metadata.getAllBinary('x-bin').map((bytes) => bytes.toString('hex')),
    ['ab', 'abcd', '010203', ''],
  );
  assert.equal(metadata.getBinary('x-bin')?.toString('hex'), 'ab');
  assert.equal(metadata.getBinary('y-bin'), undefined);
});

test('base64 is checked', () => {
  for (const value of ['', 'qw', 'qw==', 'AQID', 'AQID,qw', '+/+/']) {
    assert.equal(hasValidBinaryFields(fields([['x-bin', value]])), true, value);
  }
  for (const value of ['a', 'AQIDB', '-_-_', 'AQ ID', 'AQID====']) {
    assert.equal(hasValidBinaryFields(fields([['x-bin', value]])), false, value);
  }
});

test('what a handler may send', () => {
  assert.deepEqual(encodeMetadataEntry('x-own', 'a b'), ['x-own', 'a b']);
  assert.deepEqual(encodeMetadataEntry('x-bin', Buffer.from([0xab])), ['x-bin', 'qw']);
  for (const [name, value] of [
    ['X-Upper', 'v'],
    ['', 'v'],
    ['a b', 'v'],
    [':path', 'v'],
    ['grpc-status', '0'],
    ['content-type', 'v'],
    ['te', 'v'],
    ['connection', 'v'],
    ['x', 'line\nbreak'],
    ['x', ' blank'],
    ['x', 'blank '],
    ['x', 'é'],
    ['x-bin', 'text'],
    ['x', Buffer.from('bytes')],
  ] as const) {
    assert.throws(() => encodeMetadataEntry(name, value), MetadataError, `${name}: ${value}`);
  }
});
