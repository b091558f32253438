/** The thread of a TcpProxy: joins each connection to one of the port in `workerData`, unless it is cut. */
import { connect, createServer, type Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';

const sockets = new Set<Socket>();
let isCut = false;

function join(from: Socket, to: Socket): void {
  sockets.add(from);
  from.setNoDelay(true);
  from.on('data', (data) => {
    if (!isCut) to.write(data);
  });
  from.on('error', () => {});
  from.on('close', () => {
    sockets.delete(from);
    to.destroy();
  });
}

const server = createServer((near) => {
  const far = connect(workerData as number, '127.0.0.1');
  join(near, far);
  join(far, near);
});
server.listen(0, '127.0.0.1', () => parentPort?.postMessage((server.address() as { port: number }).port));

parentPort?.on('message', (message: 'cut' | 'mend') => {
  isCut = message === 'cut';
  if (!isCut) for (const socket of sockets) socket.destroy();
});
