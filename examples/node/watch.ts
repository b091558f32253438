/** A backend that watches users over gRPC: `node examples/node/watch.ts ada bob`. */
import { PresenceClient } from '@pilotlight/client';
import { grpcLink } from '@pilotlight/client/grpc';

const userIds = process.argv.slice(2);
const client = new PresenceClient({
  connect: grpcLink(process.env.PRESENCE_URL ?? 'http://127.0.0.1:50051'),
  onError: (error) => console.error(error),
}).open();
client.onStateChange((state) => console.error(`session: ${state}`));
process.once('SIGINT', () => client.close());

for await (const { userId, state, previous } of client.changes(userIds)) {
  const was = previous ? ` (was ${previous.status})` : '';
  console.log(`${userId} is ${state.status}${was} ${state.customStatus?.text ?? ''}`.trimEnd());
}
