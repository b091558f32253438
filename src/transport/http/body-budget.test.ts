import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BodyBudget } from './body-budget.ts';

describe('the budget of unfinished bodies', () => {
  it('takes from the caller who has reserved most, and from nobody else', () => {
    const budget = new BodyBudget(100);
    const dropped: string[] = [];
    const reserve = (caller: string, bytes: number) =>
      budget.reserve(caller, bytes, () => dropped.push(`${caller} ${bytes}`));
    assert.ok(reserve('greedy', 40));
    assert.ok(reserve('greedy', 40));
    const modest = reserve('modest', 15);
    assert.ok(modest);
    assert.equal(reserve('greedy', 10), undefined);
    assert.deepEqual(dropped, []);
    assert.ok(reserve('other', 30));
    assert.deepEqual(dropped, ['greedy 40', 'greedy 40']);
    assert.equal(budget.bytes, 45);
    modest.release();
    modest.release();
    assert.equal(budget.bytes, 30);
    assert.equal(reserve('modest', 101), undefined);
    assert.deepEqual(dropped, ['greedy 40', 'greedy 40']);
  });
});
