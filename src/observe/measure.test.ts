import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CallMeter, Histogram, HistogramWindow, quantile } from './measure.ts';

describe('Histogram', () => {
  it('counts a value at a bound in the bucket of that bound', () => {
    const histogram = new Histogram([1, 2]);
    for (const value of [0.5, 1, 1.5, 2, 2.5]) histogram.observe(value);
    assert.deepEqual([...histogram.counts], [2, 2, 1]);
    assert.equal(histogram.sum, 7.5);
    assert.equal(histogram.count, 5);
  });
});

describe('HistogramWindow', () => {
  it('gives what was counted since the last look', () => {
    const histogram = new Histogram([1]);
    histogram.observe(0.5);
    const window = new HistogramWindow(histogram);
    assert.deepEqual([...window.take()], [0, 0]);
    histogram.observe(0.5);
    histogram.observe(5);
    assert.deepEqual([...window.take()], [1, 1]);
    assert.deepEqual([...window.take()], [0, 0]);
  });
});

describe('quantile', () => {
  it('interpolates inside a bucket', () => {
    assert.equal(quantile([10, 20], [0, 4, 0], 0.5), 15);
    assert.equal(quantile([10, 20], [2, 2, 0], 1), 20);
  });

  it('is null without values, and the last bound for what lies beyond it', () => {
    assert.equal(quantile([1], [0, 0], 0.5), null);
    assert.equal(quantile([1], [0, 3], 0.5), 1);
  });
});

describe('CallMeter', () => {
  it('keeps one histogram for each method and code', () => {
    const meter = new CallMeter();
    meter.observe('Get', 'OK', performance.now());
    meter.observe('Get', 'OK', performance.now());
    meter.observe('Get', 'REDIS_ERROR', performance.now());
    const seen = [...meter.entries()].map(({ method, code, histogram }) => [method, code, histogram.count]);
    assert.deepEqual(seen, [
      ['Get', 'OK', 2],
      ['Get', 'REDIS_ERROR', 1],
    ]);
  });
});
