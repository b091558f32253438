import type { EngineReport } from '../../src/observe/stats.ts';
import { formatBytes, formatCount, formatMs } from './format.ts';

export function EngineCard({ engine }: { readonly engine: EngineReport }) {
  const isRedis = engine.kind === 'redis';
  return (
    <section className="card" aria-labelledby="engine-title">
      <h2 id="engine-title">{isRedis ? 'Redis' : 'Memory engine'}</h2>
      <dl className="facts">
        <dt>State</dt>
        <dd>
          <span className={`dot ${engine.available ? 'good' : 'bad'}`} aria-hidden="true" />
          {engine.available ? 'answers' : 'does not answer'}
        </dd>
        {isRedis && (
          <>
            <dt>Commands</dt>
            <dd>{formatCount(engine.commandsPerSecond)} per second</dd>
            <dt>Latency</dt>
            <dd>
              {formatMs(engine.commandMs?.p50)} p50, {formatMs(engine.commandMs?.p99)} p99
            </dd>
            <dt>Errors</dt>
            <dd>{formatCount(engine.errors)} since the start</dd>
          </>
        )}
        <dt>Memory</dt>
        <dd>
          {formatBytes(engine.usedBytes)}
          {engine.maxBytes !== null && ` of ${formatBytes(engine.maxBytes)}`}
        </dd>
        <dt>Partitions</dt>
        <dd>{engine.partitions}</dd>
      </dl>
    </section>
  );
}
