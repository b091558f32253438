import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/** A way to a port that can be cut, as a cable: what is sent then arrives nowhere, and nobody is told. */
export class TcpProxy {
  readonly port: number;
  readonly #worker: Worker;

  constructor(worker: Worker, port: number) {
    this.#worker = worker;
    this.port = port;
  }

  /** It has a thread of its own, so that a busy test does not slow it down. */
  static async start(targetPort: number): Promise<TcpProxy> {
    const worker = new Worker(new URL('./tcp-proxy-worker.ts', import.meta.url), { workerData: targetPort });
    const [port] = (await once(worker, 'message')) as [number];
    return new TcpProxy(worker, port);
  }

  cut(): void {
    this.#worker.postMessage('cut');
  }

  /** Mends the cable. Connections that were cut in the middle end, as after a long time. */
  mend(): void {
    this.#worker.postMessage('mend');
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}
