export interface ActivityReporterOptions {
  /** Whether input tells that the user is there. */
  readonly reportsInput: boolean;
  /** Input came after a silence: worth telling at once. */
  readonly onInput: () => void;
  /** The page is shown again after it was put away, or the network is back. */
  readonly onShown: () => void;
  /** The page goes away, perhaps for good. */
  readonly onHidden: () => void;
}

const inputEvents = ['pointerdown', 'pointermove', 'keydown', 'wheel', 'touchstart', 'scroll'] as const;
/** Silence after which the next input is told at once rather than with the next heartbeat, ms. */
const silenceMs = 10_000;

/** Watches a page for signs that somebody is there, and for its end. */
export class ActivityReporter {
  readonly reportsInput: boolean;
  readonly #options: ActivityReporterOptions;
  #hasInput = true;
  #inputMs = performance.now();
  #isStarted = false;

  constructor(options: ActivityReporterOptions) {
    this.#options = options;
    this.reportsInput = options.reportsInput;
  }

  start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    if (this.reportsInput) {
      for (const name of inputEvents) {
        addEventListener(name, this.#onInput, { capture: true, passive: true });
      }
      document.addEventListener('visibilitychange', this.#onVisibility);
    }
    addEventListener('pagehide', this.#options.onHidden);
    addEventListener('pageshow', this.#onPageShow);
    addEventListener('online', this.#options.onShown);
  }

  stop(): void {
    if (!this.#isStarted) return;
    this.#isStarted = false;
    for (const name of inputEvents) removeEventListener(name, this.#onInput, { capture: true });
    document.removeEventListener('visibilitychange', this.#onVisibility);
    removeEventListener('pagehide', this.#options.onHidden);
    removeEventListener('pageshow', this.#onPageShow);
    removeEventListener('online', this.#options.onShown);
  }

  /** How long ago the last input was, ms. */
  silentMs(): number {
    return performance.now() - this.#inputMs;
  }

  /** Whether there was input since this was last asked. */
  takeInput(): boolean {
    const hadInput = this.#hasInput;
    this.#hasInput = false;
    return hadInput;
  }

  readonly #onInput = (): void => {
    const nowMs = performance.now();
    const wasSilent = this.silentMs() > silenceMs;
    this.#inputMs = nowMs;
    this.#hasInput = true;
    if (wasSilent) this.#options.onInput();
  };

  /** To look at a page is input; to look away is none. */
  readonly #onVisibility = (): void => {
    if (document.visibilityState === 'visible') this.#onInput();
  };

  /** From the back-forward cache; the first showing is no return. */
  readonly #onPageShow = (event: PageTransitionEvent): void => {
    if (event.persisted) this.#options.onShown();
  };
}
