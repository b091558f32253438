import type { NodeReport, Stats } from '../../src/observe/stats.ts';
import { formatAge, formatBytes, formatCount, formatMs } from './format.ts';

export function Nodes({ stats }: { readonly stats: Stats }) {
  return (
    <section className="card wide" aria-labelledby="nodes-title">
      <h2 id="nodes-title">Nodes</h2>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <section className="scroll" tabIndex={0} aria-label="Nodes, a table that scrolls sideways">
        <table>
          <thead>
            <tr>
              <th scope="col">Node</th>
              <th scope="col">State</th>
              <th scope="col">Up</th>
              <th scope="col">gRPC</th>
              <th scope="col">WebSocket</th>
              <th scope="col">Events</th>
              <th scope="col">Watches</th>
              <th scope="col">Heartbeats/s</th>
              <th scope="col">Feed lag</th>
              <th scope="col">Loop lag</th>
              <th scope="col">Sweeps</th>
              <th scope="col">Memory</th>
            </tr>
          </thead>
          <tbody>
            {stats.nodes.map((node) => (
              <NodeRow key={node.id} node={node} stats={stats} />
            ))}
          </tbody>
        </table>
      </section>
    </section>
  );
}

function NodeRow({ node, stats }: { readonly node: NodeReport; readonly stats: Stats }) {
  const isReady = node.notReady.length === 0;
  return (
    <tr>
      <th scope="row" title={node.id}>
        {node.id.slice(0, 8)}
        {node.id === stats.nodeId && <span className="muted"> (this)</span>}
      </th>
      <td>
        <span className={`dot ${isReady ? 'good' : 'bad'}`} aria-hidden="true" />
        {isReady ? 'ready' : node.notReady.join('; ')}
      </td>
      <td>{formatAge(stats.sample.atMs - node.startedAtMs)}</td>
      <td>{formatCount(node.connections.grpc)}</td>
      <td>{formatCount(node.connections.websocket)}</td>
      <td>{formatCount(node.connections.events)}</td>
      <td>{formatCount(node.watchEdges)}</td>
      <td>{formatCount(node.heartbeatsPerSecond)}</td>
      <td>{formatMs(node.feedLagMs?.p99)}</td>
      <td>{formatMs(node.eventLoopLagMs)}</td>
      <td>
        {node.sweptPartitions} of {stats.engine.partitions}
      </td>
      <td>{formatBytes(node.memoryBytes)}</td>
    </tr>
  );
}
