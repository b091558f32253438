import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { joinAddress, parseRedisTarget, splitAddress } from './redis-target.ts';

describe('redis target', () => {
  it('reads one server, with everything', () => {
    assert.deepEqual(parseRedisTarget('rediss://ada:p%40ss@redis.example:6380/3'), {
      mode: 'standalone',
      tls: true,
      ca: undefined,
      seeds: ['redis.example:6380'],
      masterName: '',
      username: 'ada',
      password: 'p@ss',
      passwordFile: undefined,
      database: 3,
    });
  });

  it('reads a password without a user, and default ports', () => {
    const target = parseRedisTarget('redis://:secret@localhost');
    assert.equal(target.username, undefined);
    assert.equal(target.password, 'secret');
    assert.deepEqual(target.seeds, ['localhost:6379']);
    assert.deepEqual(parseRedisTarget('redis+sentinel://a,[::1]:1/m').seeds, ['a:26379', '[::1]:1']);
  });

  it('reads Sentinels with the name of the master, and servers of a Cluster', () => {
    const sentinel = parseRedisTarget('redis+sentinel://a:1,b:2/main/4');
    assert.equal(sentinel.mode, 'sentinel');
    assert.equal(sentinel.masterName, 'main');
    assert.equal(sentinel.database, 4);
    const cluster = parseRedisTarget('rediss+cluster://u:p@a:1,b:2,c');
    assert.equal(cluster.mode, 'cluster');
    assert.equal(cluster.tls, true);
    assert.deepEqual(cluster.seeds, ['a:1', 'b:2', 'c:6379']);
  });

  it('says what is wrong with anything else', () => {
    for (const [text, problem] of [
      ['http://localhost', /must be a URL such as/],
      ['localhost:6379', /must be a URL such as/],
      ['redis://', /must be a URL such as/],
      ['redis://a,b', /redis\+sentinel:\/\/ or redis\+cluster:\/\//],
      ['redis://a:99999', /host:port/],
      ['redis://a/x', /number of a database/],
      ['redis+sentinel://a', /master's name/],
      ['redis+cluster://a/1', /no database/],
      ['redis://%zz@a', /percent-encoded/],
    ] as const) {
      assert.throws(() => parseRedisTarget(text), problem, text);
    }
  });

  it('splits and joins addresses', () => {
    for (const address of ['a:1', '[::1]:6379', '127.0.0.1:2']) {
      const { host, port } = splitAddress(address);
      assert.equal(joinAddress(host, port), address);
    }
  });
});
