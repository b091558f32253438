/** A load process that speaks Socket.IO: what `pilotlight bench` does to Pilotlight, done to socketio-server.mjs. */
import { WebSocket } from 'ws';
import { monoMs } from '../../src/cli/bench/clock.ts';
import type { FromLoadProcess, ToLoadProcess } from '../../src/cli/bench/job.ts';
import { shareOf } from '../../src/cli/bench/job.ts';
import { runLoadProcess } from '../../src/cli/bench/load-process.ts';
import { userOffline, userOnline } from '../../src/cli/bench/messages.ts';
import type { LoadContext, Scenario } from '../../src/cli/bench/scenario.ts';
import { type LoadSession, targetOf } from '../../src/cli/bench/session.ts';
import { type FlipListener, fanoutOf } from '../../src/cli/bench/watch-scenarios.ts';

/** Engine.IO 4 and Socket.IO 5 packets, as text. */
const packet = { ping: '2', pong: '3', connect: '40', connected: '40{', event: '42', ack: '43' } as const;

/** One Socket.IO connection over WebSocket; no more of the protocol than the load needs. */
class SocketIoClient {
  readonly opened: Promise<void>;
  onStatus: ((userId: string, isOnline: boolean) => void) | undefined;
  onLost: () => void = () => {};
  readonly #socket: WebSocket;
  readonly #acks = new Map<number, (ok: boolean) => void>();
  #nextAck = 0;
  #isLeft = false;

  constructor(context: LoadContext, index: number) {
    const { host, port, localAddress } = targetOf(context.load, index);
    this.#socket = new WebSocket(`ws://${host}:${port}/socket.io/?EIO=4&transport=websocket`, {
      perMessageDeflate: false,
      skipUTF8Validation: true,
      ...(localAddress === undefined ? {} : { localAddress }),
    });
    const opened = Promise.withResolvers<void>();
    this.opened = opened.promise;
    this.#socket.on('message', (data: Buffer) => {
      const text = data.toString('latin1');
      if (text.startsWith(packet.event)) this.#onEvent(text);
      else if (text.startsWith(packet.ack)) this.#onAck(text);
      else if (text === packet.ping) this.#socket.send(packet.pong);
      else if (text.startsWith(packet.connected)) opened.resolve();
      else if (text.startsWith('0')) this.#socket.send(packet.connect);
    });
    // 'close' follows and tells.
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => {
      opened.reject(new Error('the Socket.IO connection was refused'));
      for (const done of this.#acks.values()) done(false);
      if (!this.#isLeft) this.onLost();
    });
  }

  /** @param args JSON of the event's name and arguments, without brackets */
  emit(args: string, done: (ok: boolean) => void): void {
    const ack = this.#nextAck++;
    this.#acks.set(ack, done);
    this.#socket.send(`${packet.event}${ack}[${args}]`);
  }

  drop(): void {
    this.#isLeft = true;
    this.#socket.terminate();
  }

  #onEvent(text: string): void {
    const [name, userId, isOnline] = JSON.parse(text.slice(2)) as [string, string, boolean];
    if (name === 'status') this.onStatus?.(userId, isOnline);
  }

  #onAck(text: string): void {
    const ack = Number.parseInt(text.slice(2), 10);
    this.#acks.get(ack)?.(true);
    this.#acks.delete(ack);
  }
}

function clientsOf(context: LoadContext): {
  open: () => Promise<void>;
  next: () => SocketIoClient;
  close: () => void;
} {
  const clients: SocketIoClient[] = [];
  let turn = 0;
  return {
    open: async () => {
      const [from, to] = shareOf(context.load.connections, context.job);
      for (let index = from; index < Math.max(to, from + 1); index++) {
        const client = new SocketIoClient(context, index);
        await client.opened;
        clients.push(client);
      }
    },
    next: () => {
      turn = (turn + 1) % clients.length;
      return clients[turn] as SocketIoClient;
    },
    close: () => {
      for (const client of clients) client.drop();
    },
  };
}

function heartbeat(context: LoadContext): Scenario {
  const series = context.recorder.series('heartbeat');
  const clients = clientsOf(context);
  let user = context.firstUser;
  return {
    prepare: async () => {
      await clients.open();
      for (let lit = context.firstUser; lit < context.endUser; ) {
        const batch = Array.from({ length: Math.min(200, context.endUser - lit) }, () => lit++);
        await Promise.all(
          batch.map(
            (it) =>
              new Promise((resolve) => clients.next().emit(`"set","${context.userId(it)}",true`, resolve)),
          ),
        );
      }
    },
    run: (startMs) =>
      context.drive(startMs, (intendedMs, done) => {
        const userId = context.userId(user);
        user = user + 1 < context.endUser ? user + 1 : context.firstUser;
        clients.next().emit(`"heartbeat","${userId}"`, (ok) => {
          if (ok) series.ok(intendedMs, monoMs());
          else series.failed(intendedMs);
          done();
        });
      }),
    close: clients.close,
  };
}

async function openWatcher(
  context: LoadContext,
  index: number,
  watch: readonly string[],
  onLost: () => void,
  onEvent: FlipListener,
): Promise<LoadSession> {
  const client = new SocketIoClient(context, index);
  await client.opened;
  client.onLost = onLost;
  client.onStatus = (userId, isOnline) =>
    onEvent(Number(userId.slice(userId.lastIndexOf('-') + 1)), isOnline ? userOnline : userOffline);
  const ok = await new Promise<boolean>((resolve) =>
    client.emit(`"watch",${JSON.stringify(watch)}`, resolve),
  );
  if (!ok) throw new Error('a watch was refused');
  return { close: () => client.drop(), drop: () => client.drop() };
}

function fanout(context: LoadContext): Scenario {
  const updates = context.recorder.series('update');
  let publisher: SocketIoClient;
  return fanoutOf(context, {
    prepare: async () => {
      publisher = new SocketIoClient(context, context.load.connections);
      await publisher.opened;
    },
    open: (index, watch, onLost, onEvent) => openWatcher(context, index, watch, onLost, onEvent),
    flip: (user, status, intendedMs) =>
      publisher.emit(`"set","${context.userId(user)}",${status === userOnline}`, (ok) => {
        if (ok) updates.ok(intendedMs, monoMs());
        else updates.failed(intendedMs);
      }),
  });
}

runLoadProcess(
  {
    send: (message: FromLoadProcess) => process.send?.(message),
    onMessage: (listener: (message: ToLoadProcess) => void) => {
      process.on('message', listener);
      process.once('disconnect', () => process.exit());
    },
  },
  { heartbeat, fanout },
);
