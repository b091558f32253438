import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Overload } from './overload.ts';

/** An event loop by hand: turns as long as the test says. */
class Loop {
  nowMs = 0;
  readonly overload: Overload;
  #atEnd: (() => void)[] = [];

  constructor(maxTurnMs = 40) {
    this.overload = new Overload(
      maxTurnMs,
      () => this.nowMs,
      (work) => {
        this.#atEnd.push(work);
      },
    );
  }

  /** A turn in which a call comes each ms: how many are served. */
  turn(ms: number, has: 'hasRoom' | 'hasRoomForNewcomer' = 'hasRoom'): number {
    let served = 0;
    for (let passed = 0; passed < ms; passed++) {
      if (this.overload[has]) served++;
      this.nowMs++;
    }
    this.end();
    return served;
  }

  end(): void {
    for (const work of this.#atEnd.splice(0)) work();
  }
}

describe('overload', () => {
  it('is no single long turn, and no short ones', () => {
    const loop = new Loop();
    assert.equal(loop.turn(200), 200);
    assert.equal(loop.turn(10), 10);
    const served = Array.from({ length: 128 }, (_, call) => {
      // In the middle of the turn.
      if (call === 5 || call === 70) loop.nowMs += 1000;
      return loop.overload.hasRoom;
    });
    assert.ok(served.every(Boolean));
    loop.end();
    for (let turns = 0; turns < 100; turns++) assert.equal(loop.turn(40), 40);
    for (let turns = 0; turns < 10; turns++) {
      assert.equal(loop.turn(100), 100);
      assert.equal(loop.turn(10), 10);
    }
  });

  it('is a row of long turns: then each takes calls for a while, and newcomers for half of it', () => {
    const loop = new Loop();
    for (let turns = 0; turns < 3; turns++) assert.equal(loop.turn(100), 100);
    assert.equal(loop.turn(100), 6);
    // Twenty times as long as aimed at: a fifth of the time from here on, and the rest of the way with the next.
    assert.equal(loop.turn(10), 2);
    assert.equal(loop.turn(10, 'hasRoomForNewcomer'), 1);
  });

  it('is a single turn in which calls alone take 200 ms: they are taken no longer', () => {
    const loop = new Loop();
    const served = loop.turn(1000);
    assert.ok(served >= 200 && served < 240, `${served} of 1000`);
    assert.ok(loop.turn(100) < 10);
    const patient = new Loop(1000);
    assert.equal(patient.turn(1000), 1000);
    assert.ok(patient.turn(2000) < 1040);
  });

  it('ends by itself when turns are short again, in a few seconds', () => {
    const loop = new Loop();
    for (let turns = 0; turns < 10; turns++) loop.turn(100);
    assert.equal(loop.turn(10), 1);
    let lastRefusedMs = 0;
    const endedMs = loop.nowMs;
    while (loop.nowMs < endedMs + 10_000) {
      // After a long turn the loop does not wait; then it does.
      loop.end();
      loop.nowMs += 5;
      if (loop.turn(5) < 5) lastRefusedMs = loop.nowMs - endedMs;
    }
    assert.ok(lastRefusedMs > 1000 && lastRefusedMs < 3000, `${lastRefusedMs} ms`);
    assert.equal(loop.turn(40), 40);
  });

  it('leaves calls their time in turns that are busy with other things', () => {
    const loop = new Loop();
    for (let turns = 0; turns < 4; turns++) loop.turn(100);
    for (let turns = 0; turns < 50; turns++) {
      // What is no call.
      loop.nowMs += 300;
      assert.ok(loop.turn(20) >= 1);
    }
  });

  it('is never found where it is not looked for', () => {
    let asked = 0;
    const overload = new Overload(
      0,
      () => 0,
      () => asked++,
    );
    assert.equal(overload.hasRoom && overload.hasRoomForNewcomer, true);
    assert.equal(asked, 0);
  });
});
