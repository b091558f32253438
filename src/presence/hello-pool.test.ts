import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { HelloPool } from './hello-pool.ts';

describe('the pool of sessions without a hello', () => {
  const at = (address: string, connection: string) => ({ address, connection });

  it('takes the place of the oldest of the greediest connection at the greediest address', () => {
    const pool = new HelloPool<string>(6);
    for (const id of ['a1', 'a2', 'a3']) assert.equal(pool.add(id, at('A', '1')), undefined);
    assert.equal(pool.add('a4', at('A', '2')), undefined);
    for (const id of ['b1', 'b2']) assert.equal(pool.add(id, at('B', '3')), undefined);
    assert.equal(pool.add('c1', at('C', '4')), 'a1');
    assert.equal(pool.add('a5', at('A', '2')), 'a2', 'also for one of its own');
    assert.equal(pool.add('c2', at('C', '4')), 'a4');
    assert.equal(pool.size, 6);
  });

  it('forgets who leaves, and every address and connection with them', () => {
    const pool = new HelloPool<string>(2);
    pool.add('a', at('A', '1'));
    pool.add('b', at('B', '2'));
    assert.equal(pool.delete('a'), true);
    assert.equal(pool.delete('a'), false);
    assert.equal(pool.add('c', at('C', '3')), undefined);
    assert.equal(pool.add('d', at('D', '4')), 'b', 'among equals the address that came first');
    for (const id of ['c', 'd']) pool.delete(id);
    assert.equal(pool.size, 0);
  });
});
