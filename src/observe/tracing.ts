import {
  type Attributes,
  context,
  propagation,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  type Tracer,
  trace,
} from '@opentelemetry/api';

export { type Attributes, SpanKind } from '@opentelemetry/api';

/** Where a caller's trace is told: gRPC metadata, HTTP headers. */
export interface TraceCarrier {
  get(name: string): string | undefined;
}

const getter: TextMapGetter<TraceCarrier> = {
  get: (carrier, name) => carrier.get(name),
  keys: () => ['traceparent', 'tracestate'],
};

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

  /**
   * Runs `work` inside a span, which is the parent of the spans begun in it.
   *
   * @param caller whose trace it continues; default: the span that is running
   */
  run<Result>(
    name: string,
    kind: SpanKind,
    attributes: Attributes,
    work: () => Promise<Result>,
    caller?: TraceCarrier,
  ): Promise<Result> {
    if (!this.#tracer) return work();
    const parent = caller ? propagation.extract(context.active(), caller, getter) : context.active();
    return this.#tracer.startActiveSpan(name, { kind, attributes }, parent, async (span) => {
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

  /** Runs `work` as part of a caller's trace. */
  continue(caller: TraceCarrier, work: () => void): void {
    if (!this.#tracer) work();
    else context.with(propagation.extract(context.active(), caller, getter), work);
  }

  /** Reports a span that is over; its start is a reading of performance.now(). */
  report(name: string, startMs: number, attributes: Attributes): void {
    if (!this.#tracer) return;
    const startTime = performance.timeOrigin + startMs;
    this.#tracer.startSpan(name, { startTime, attributes }, ROOT_CONTEXT).end();
  }

  /**
   * The same object, with a span around each of these methods; where nobody collects spans, the object itself.
   *
   * @param prefix of the spans' names: `store` makes `store/heartbeat`
   */
  around<Target extends object>(
    target: Target,
    prefix: string,
    methods: readonly (keyof Target & string)[],
  ): Target {
    if (!this.#tracer) return target;
    return new Proxy(target, {
      get: (object, property) => {
        const value: unknown = Reflect.get(object, property, object);
        if (typeof value !== 'function') return value;
        // Private fields are the target's own, so it must be `this`.
        if (!methods.includes(property as keyof Target & string)) return value.bind(object);
        return (...args: unknown[]) =>
          this.run(`${prefix}/${String(property)}`, SpanKind.CLIENT, {}, () => value.apply(object, args));
      },
    });
  }
}
