import {
  type Attributes,
  ROOT_CONTEXT,
  type SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';

export type { Attributes } from '@opentelemetry/api';

/**
 * Spans of rpcs, store calls and fan-out for whatever OpenTelemetry SDK the process was started with (docs/tracing.md).
 * Without one every method is a test of a flag.
 */
export class Tracing {
  readonly #tracer: Tracer | undefined;

  /** Looks once whether an SDK is loaded, so load it before the server: `node --import`. */
  constructor() {
    const tracer = trace.getTracer('pilotlight');
    const probe = tracer.startSpan('pilotlight.start', {}, ROOT_CONTEXT);
    // The API's own tracer hands out spans without an id that never record; every SDK gives an id.
    const isLoaded = probe.spanContext().traceId !== '00000000000000000000000000000000';
    probe.end();
    this.#tracer = isLoaded ? tracer : undefined;
  }

  /** Whether somebody collects spans. Ask before building attributes on a hot path. */
  get isOn(): boolean {
    return this.#tracer !== undefined;
  }

  /** Runs `work` inside a span, which is the parent of the spans begun in it. */
  run<Result>(
    name: string,
    kind: SpanKind,
    attributes: Attributes,
    work: () => Promise<Result>,
  ): Promise<Result> {
    if (!this.#tracer) return work();
    return this.#tracer.startActiveSpan(name, { kind, attributes }, async (span) => {
      try {
        return await work();
      } catch (error) {
        span.setStatus({ code: SpanStatusCode.ERROR, message: (error as Error).message });
        throw error;
      } finally {
        span.end();
      }
    });
  }

  /** Reports a span that is over; its start is a reading of performance.now(). */
  report(name: string, startMs: number, attributes: Attributes): void {
    if (!this.#tracer) return;
    const startTime = performance.timeOrigin + startMs;
    this.#tracer.startSpan(name, { startTime, attributes }).end();
  }
}

export { SpanKind } from '@opentelemetry/api';
