/** A session in a process of its own, so that it can be frozen: `client-process.ts USER WAY PORT`. */
import { grpcLink } from '../../src/grpc.ts';
import { PresenceClient, webSocketLink } from '../../src/index.ts';

const [userId, way, port] = process.argv.slice(2) as [string, 'gRPC' | 'WebSocket', string];
const url = `http://127.0.0.1:${port}`;
const client = new PresenceClient({ connect: way === 'gRPC' ? grpcLink(url) : webSocketLink(url), userId });
client.onStateChange((state) => console.log(state));
client.open();
