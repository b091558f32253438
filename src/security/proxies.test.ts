import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { clientAddress, networkOf, parseNetworks } from './client-address.ts';
import { readPreamble } from './proxy-protocol.ts';

const trusted = parseNetworks('10.0.0.0/8, 2001:db8:1::/48, 127.0.0.1');
assert.ok(trusted);
const networks = trusted;

describe('the client behind proxies', () => {
  const behind = (peer: string, hops?: string) => clientAddress(networks, 'x-forwarded-for', peer, hops);
  const told = (peer: string, hops: string) => clientAddress(networks, 'forwarded', peer, hops);

  it('is the last hop that no trusted proxy is', () => {
    assert.equal(behind('10.0.0.1', '192.0.2.1'), '192.0.2.1');
    assert.equal(behind('10.0.0.1', '198.51.100.9, 192.0.2.1'), '192.0.2.1', 'what stands left is made up');
    assert.equal(behind('10.0.0.1', '198.51.100.9, 192.0.2.1, 10.9.9.9,127.0.0.1'), '192.0.2.1');
    assert.equal(behind('::ffff:10.0.0.1', '192.0.2.1'), '192.0.2.1');
    assert.equal(behind('2001:db8:1::5', '[2001:db8:2::1]:443'), '2001:db8:2::1');
    assert.equal(behind('10.0.0.1', '192.0.2.1:5678'), '192.0.2.1');
    assert.equal(behind('10.0.0.1', '::ffff:192.0.2.1'), '192.0.2.1');
    assert.equal(behind('10.0.0.1', '10.0.0.2, 10.0.0.3'), '10.0.0.2');
  });

  it('is the other end of the connection where that is no trusted proxy, or tells nothing', () => {
    assert.equal(behind('192.0.2.7', '1.1.1.1'), '192.0.2.7');
    assert.equal(behind('11.0.0.1', '1.1.1.1'), '11.0.0.1');
    for (const hops of [
      undefined,
      '',
      ',',
      'unknown',
      '1.1.1',
      '1.1.1.1x',
      'x'.repeat(65_536),
      '999.1.1.1',
    ]) {
      assert.equal(behind('10.0.0.1', hops), '10.0.0.1', String(hops).slice(0, 20));
    }
    assert.equal(behind('10.0.0.1', 'unknown, 10.0.0.2'), '10.0.0.2', 'nearest proxy before what is unknown');
    assert.equal(behind('10.0.0.1', `192.0.2.1${', 10.0.0.2'.repeat(1000)}`), '10.0.0.2', 'bounded');
  });

  it('is read from RFC 7239 as well', () => {
    assert.equal(told('10.0.0.1', 'for=192.0.2.1'), '192.0.2.1');
    assert.equal(
      told('10.0.0.1', 'for=1.1.1.1, For="[2001:db8:cafe::17]:4711";proto=https;by=10.0.0.1'),
      '2001:db8:cafe::17',
    );
    assert.equal(told('10.0.0.1', 'proto=https; for=192.0.2.1:47'), '192.0.2.1');
    assert.equal(
      told('10.0.0.1', 'for="1.1.1.1, for=192.0.2.1'),
      '192.0.2.1',
      'a quote of the client swallows nothing',
    );
    for (const hops of ['for=unknown', 'for=_hidden', 'for=', 'host=for=1.1.1.1', '1.1.1.1', 'for="a,b"']) {
      assert.equal(told('10.0.0.1', hops), '10.0.0.1', hops);
    }
  });

  it('counts by address, of IPv6 by the /64', () => {
    assert.equal(networkOf('192.0.2.1'), '192.0.2.1');
    assert.equal(networkOf('::ffff:192.0.2.1'), '192.0.2.1');
    assert.equal(networkOf('2001:db8::1'), networkOf('2001:db8:0:0:ffff::2'));
    assert.notEqual(networkOf('2001:db8::1'), networkOf('2001:db8:0:1::1'));
    assert.equal(networkOf('2001:0db8::1'), networkOf('2001:db8::2'));
    assert.equal(networkOf('::1'), '0:0:0:0');
  });

  it('is looked for in networks that are some', () => {
    for (const text of [
      '10.0.0.0/33',
      '10.0.0/8',
      'proxy.example',
      '::/129',
      '10.0.0.0/',
      '10.0.0.0/8/8',
      ',',
      '10.0.0.0/-1',
    ]) {
      assert.throws(() => parseNetworks(text), /must name networks/, text);
    }
    assert.equal(parseNetworks(''), undefined);
  });
});

describe('PROXY preambles', () => {
  const v2 = (command: number, family: number, body: Buffer) => {
    const head = Buffer.from('\r\n\r\n\0\r\nQUIT\n\0\0\0\0', 'latin1');
    head.writeUInt8(command, 12);
    head.writeUInt8(family, 13);
    head.writeUInt16BE(body.length, 14);
    return Buffer.concat([head, body]);
  };
  const ipv4 = Buffer.from([192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80]);
  const ipv6 = Buffer.alloc(36);
  ipv6.set([0x20, 0x01, 0x0d, 0xb8], 0);
  ipv6[15] = 1;

  const complete: readonly [name: string, bytes: Buffer, address: string | undefined][] = [
    ['v1 IPv4', Buffer.from('PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n'), '192.0.2.1'],
    ['v1 IPv6', Buffer.from('PROXY TCP6 2001:db8::1 ::1 4711 80\r\n'), '2001:db8::1'],
    ['v1 unknown', Buffer.from('PROXY UNKNOWN whatever\r\n'), undefined],
    ['v2 IPv4', v2(0x21, 0x11, ipv4), '192.0.2.1'],
    ['v2 IPv4 and more', v2(0x21, 0x11, Buffer.concat([ipv4, Buffer.alloc(500)])), '192.0.2.1'],
    ['v2 IPv6', v2(0x21, 0x21, ipv6), '2001:db8:0:0:0:0:0:1'],
    ['v2 local', v2(0x20, 0x00, Buffer.alloc(0)), undefined],
    ['v2 unspecified', v2(0x21, 0x00, Buffer.alloc(0)), undefined],
  ];
  for (const [name, bytes, address] of complete) {
    it(`are read: ${name}`, () => {
      const client = Buffer.from('GET / HTTP/1.1');
      const read = readPreamble(Buffer.concat([bytes, client]));
      assert.deepEqual(read, { kind: 'complete', bytes: bytes.length, address });
      for (let end = 0; end < bytes.length; end++) {
        assert.equal(readPreamble(bytes.subarray(0, end)).kind, 'incomplete', `${end} bytes`);
      }
    });
  }

  it('are bounded, and refused where they are none', () => {
    const malformed = [
      'GET / HTTP/1.1\r\n\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      'PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n',
      'PROXY TCP4 192.0.2.1 10.0.0.1 4711 80 90\r\n',
      'PROXY TCP4 192.0.2.1 10.0.0.1 4711 65536\r\n',
      'PROXY TCP4 2001:db8::1 ::1 4711 80\r\n',
      'PROXY TCP6 192.0.2.1 10.0.0.1 4711 80\r\n',
      'PROXY UDP4 192.0.2.1 10.0.0.1 4711 80\r\n',
      'PROXY TCP4 a b 1 2\r\n',
      `PROXY UNKNOWN ${'x'.repeat(100)}\r\n`,
    ];
    for (const text of malformed) assert.equal(readPreamble(Buffer.from(text)).kind, 'malformed', text);
    const binary = [
      v2(0x31, 0x11, ipv4),
      v2(0x22, 0x11, ipv4),
      v2(0x21, 0x11, ipv4.subarray(1)),
      v2(0x21, 0x21, ipv4),
      v2(0x21, 0x31, Buffer.alloc(216)),
      v2(0x21, 0x12, ipv4),
      v2(0x21, 0x11, Buffer.alloc(2049)).subarray(0, 16),
    ];
    for (const bytes of binary)
      assert.equal(readPreamble(bytes).kind, 'malformed', bytes.toString('hex', 12, 16));
  });
});
