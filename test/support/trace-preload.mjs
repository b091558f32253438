// What docs/tracing.md tells an operator to load, with an exporter that prints a line for each span.
import { NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';

const exporter = {
  export(spans, done) {
    for (const span of spans) {
      const { traceId, spanId } = span.spanContext();
      const parentId = span.parentSpanContext?.spanId ?? null;
      process.stdout.write(
        `span ${JSON.stringify({ name: span.name, traceId, spanId, parentId, status: span.status.code })}\n`,
      );
    }
    done({ code: 0 });
  },
  async shutdown() {},
};

new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register();
