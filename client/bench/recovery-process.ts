/** Some of the clients of bench/sessions/recovery.ts: real ones, that find the other server by themselves. */
import type { RecoveryLoad } from '../../bench/sessions/recovery.ts';
import { PresenceClient, webSocketLink } from '../src/index.ts';

const load = JSON.parse(process.argv[2] as string) as RecoveryLoad;
const links = load.ports.map((port) => webSocketLink(`http://127.0.0.1:${port}`));
const clients: PresenceClient[] = [];

const tasks = {
  async open(): Promise<void> {
    for (let index = 0; index < load.count; index++) {
      let attempts = 0;
      const client = new PresenceClient({
        // As behind a balancer that takes a moment to see that a server is gone.
        connect: (events) => (links[attempts++ % links.length] as (typeof links)[number])(events),
        userId: `user ${load.first + index}`,
        requestTimeoutMs: 60_000,
      });
      client.subscribe([`user ${load.first + ((index + 1) % load.count)}`], () => {});
      clients.push(client);
      client.open();
      if (index % 50 === 49) await client.ready();
    }
    await Promise.all(clients.map((client) => client.ready()));
  },
  /** Resolves when everybody lost the connection and has another. */
  async recover(): Promise<void> {
    await Promise.all(
      clients.map(
        (client) =>
          new Promise<void>((resolve) => {
            let wasLost = client.state !== 'open';
            const stop = client.onStateChange((state) => {
              if (state !== 'open') wasLost = true;
              else if (wasLost) {
                stop();
                resolve();
              }
            });
          }),
      ),
    );
  },
};

process.on('message', ([task]: [keyof typeof tasks]) => {
  tasks[task]().then(
    () => process.send?.({ result: null }),
    (error: Error) => process.send?.({ error: error.message }),
  );
});
process.send?.('ready');
