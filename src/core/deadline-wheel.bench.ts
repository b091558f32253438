import { DeadlineWheel } from './deadline-wheel.ts';

const keys = Array.from({ length: 1000 }, (_, number) => `user-${number}`);

export const benchmarks = {
  'deadline wheel: plan and visit 1,000 users': (iterations: number) => {
    let nowMs = 0;
    const wheel = new DeadlineWheel(nowMs, 5, 16_384);
    let visits = 0;
    for (let i = 0; i < iterations; i++) {
      for (const key of keys) wheel.schedule(key, nowMs + 5 + (visits++ % 100));
      nowMs += 200;
      wheel.advance(nowMs, () => {});
    }
  },
};
