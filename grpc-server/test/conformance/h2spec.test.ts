import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runCases } from './case.ts';
import { genericCases } from './generic.ts';
import { hpackCases } from './hpack.ts';
import { frameCases } from './http2-frames.ts';
import { streamCases } from './http2-streams.ts';

const cases = [...genericCases, ...streamCases, ...frameCases, ...hpackCases];

/** Cases per section of h2spec, copied from its sources: 44 + 95 + 8. */
const SECTIONS: Readonly<Record<string, string>> = {
  generic: '1(1) 2(5) 3.1(3) 3.2(3) 3.3(5) 3.4(1) 3.5(1) 3.7(1) 3.8(1) 3.9(2) 3.10(2) 4(4) 5(15)',
  http2:
    '3.5(2) 4.1(3) 4.2(3) 4.3(3) 5.1(13) 5.1.1(2) 5.1.2(1) 5.3.1(2) 5.4.1(2) 5.5(2) 6.1(3) 6.2(4) 6.3(2) 6.4(3) ' +
    '6.5(3) 6.5.2(5) 6.5.3(2) 6.7(4) 6.8(1) 6.9(3) 6.9.1(3) 6.9.2(3) 6.10(6) 7(2) 8.1(1) 8.1.2(1) 8.1.2.1(4) ' +
    '8.1.2.2(2) 8.1.2.3(7) 8.1.2.6(2) 8.2(1)',
  hpack: '2.3.3(2) 4.2(1) 5.2(3) 6.1(1) 6.3(1)',
};

test('the suite has exactly the 147 cases of h2spec', () => {
  const wanted: string[] = [];
  for (const [group, sections] of Object.entries(SECTIONS)) {
    for (const [, section, count] of sections.matchAll(/([\d.]+)\((\d+)\)/g)) {
      for (let n = 1; n <= Number(count); n++) wanted.push(`${group}/${section}/${n}`);
    }
  }
  assert.equal(wanted.length, 147);
  assert.deepEqual(cases.map((one) => one.id).toSorted(), wanted.toSorted());
});

runCases(cases);
