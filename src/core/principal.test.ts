import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { mayWatch, type Principal, parseWatchClaim } from './principal.ts';

describe('whom a claim lets watch', () => {
  const may = (claim: readonly string[], userId: string) =>
    mayWatch({ watch: parseWatchClaim(claim) } as Principal, userId);

  it('ids, and beginnings that end with *', () => {
    assert.equal(may(['bob', 'team-7:*'], 'bob'), true);
    assert.equal(may(['bob', 'team-7:*'], 'bobby'), false);
    assert.equal(may(['bob', 'team-7:*'], 'team-7:x'), true);
    assert.equal(may(['bob', 'team-7:*'], 'team-70'), false);
    assert.equal(may(['*'], 'anybody'), true);
  });

  it('an id that ends with *, escaped, and nobody else', () => {
    assert.equal(may(['team\\*'], 'team*'), true);
    assert.equal(may(['team\\*'], 'team-7'), false);
    assert.equal(may(['team\\*'], 'team\\*'), false);
    assert.equal(may(['\\*'], '*'), true);
    assert.equal(may(['\\*'], 'anybody'), false);
    // Of an id that ends with a backslash and a star, one backslash more.
    assert.equal(may(['a\\\\*'], 'a\\*'), true);
    assert.equal(may(['a\\\\*'], 'a*'), false);
  });

  it('a star or backslash that is not at the end is itself', () => {
    assert.equal(may(['a*b'], 'a*b'), true);
    assert.equal(may(['a*b'], 'axb'), false);
    assert.equal(may(['a\\b'], 'a\\b'), true);
    assert.equal(may(['a*b*'], 'a*bc'), true);
    assert.equal(may(['a*b*'], 'axbc'), false);
  });
});
