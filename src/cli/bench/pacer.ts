import { monoMs } from './clock.ts';
import { newHistogram } from './recorder.ts';

/** What was due and could not be sent in one go is spread over turns of the event loop, so that answers are read meanwhile. */
const mostPerTurn = 2000;

/**
 * Open-loop load: calls begin at their appointed times, however the server does. `send` is told the appointed time, from
 * which latency counts; what is late because this process was busy is late, and `lateness` shows it.
 */
export class Pacer {
  /** How late calls were sent, microseconds: the load generator's own fault. */
  readonly lateness = newHistogram();
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #finish: (() => void) | undefined;

  /** Resolves when the last call was begun, or at `stop`. */
  run(
    ratePerSecond: number,
    fromMs: number,
    toMs: number,
    send: (intendedMs: number) => void,
  ): Promise<void> {
    const stepMs = 1000 / ratePerSecond;
    let next = 0;
    return new Promise((resolve) => {
      this.#finish = resolve;
      const turn = (): void => {
        const nowMs = monoMs();
        let sent = 0;
        for (; sent < mostPerTurn; sent++) {
          const intendedMs = fromMs + next * stepMs;
          if (intendedMs > nowMs || intendedMs >= toMs) break;
          next++;
          this.lateness.recordValue(Math.max(1, Math.round((nowMs - intendedMs) * 1000)));
          send(intendedMs);
        }
        if (fromMs + next * stepMs >= toMs) this.stop();
        else if (sent === mostPerTurn) this.#immediate = setImmediate(turn);
        else this.#timer = setTimeout(turn, 1);
      };
      turn();
    });
  }

  stop(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#finish?.();
  }
}
