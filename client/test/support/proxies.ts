/** Real proxies in front of a server, with the timeouts that they have by default. */
import type { ChildProcess } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { endProcess, startProcess, temporaryFolder } from '../../../test/support/child-process.ts';
import { freePort } from '../../../test/support/redis-server.ts';
import { waitFor } from '../../../test/support/wait.ts';

export interface Ports {
  readonly grpcPort: number;
  readonly httpPort: number;
}

type Configure = (own: Ports, target: Ports, folder: string) => string;

/** nginx sets none of its timeouts here: 60 s each. */
const nginx: Configure = (own, target, folder) => `
daemon off;
worker_processes 1;
pid ${folder}/pid;
error_log stderr;
events { worker_connections 256; }
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder};`).join(' ')}
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  server {
    listen 127.0.0.1:${own.grpcPort} http2;
    location / { grpc_pass grpc://127.0.0.1:${target.grpcPort}; }
  }
  server {
    listen 127.0.0.1:${own.httpPort};
    location / {
      proxy_pass http://127.0.0.1:${target.httpPort};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }
  }
}
`;

/** HAProxy has no timeouts of its own. Debian's configuration sets 50 s, the examples of its manual 30 s, which is harder. */
const haproxy: Configure = (own, target) => `
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend grpc
  bind 127.0.0.1:${own.grpcPort} proto h2
  default_backend grpc
backend grpc
  server one 127.0.0.1:${target.grpcPort} proto h2
frontend web
  bind 127.0.0.1:${own.httpPort}
  default_backend web
backend web
  server one 127.0.0.1:${target.httpPort}
`;

const programs = {
  nginx: {
    configure: nginx,
    command: (file: string, folder: string) => ['nginx', '-e', 'stderr', '-p', folder, '-c', file],
  },
  HAProxy: { configure: haproxy, command: (file: string) => ['haproxy', '-db', '-f', file] },
} as const;

export type ProxyName = keyof typeof programs;
export const proxyNames = Object.keys(programs) as readonly ProxyName[];

/** A proxy of the test's own, with a port for gRPC and one for HTTP. */
export class RealProxy implements Ports {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly #folder: string;
  readonly #process: ChildProcess;

  private constructor({ grpcPort, httpPort }: Ports, folder: string, child: ChildProcess) {
    this.grpcPort = grpcPort;
    this.httpPort = httpPort;
    this.#folder = folder;
    this.#process = child;
  }

  static async start(name: ProxyName, target: Ports): Promise<RealProxy> {
    const own = { grpcPort: await freePort(), httpPort: await freePort() };
    const folder = temporaryFolder(name);
    const { configure, command } = programs[name];
    const file = join(folder, 'configuration');
    writeFileSync(file, configure(own, target, folder));
    const [program, ...args] = command(file, folder) as [string, ...string[]];
    const child = startProcess(program, args, {
      // Debian has them where only root looks.
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk;
    });
    await waitFor(
      () => `${name} to listen; it said: ${said}`,
      async () => (await isListening(own.grpcPort)) && (await isListening(own.httpPort)),
      60_000,
    );
    return new RealProxy(own, folder, child);
  }

  async stop(): Promise<void> {
    await endProcess(this.#process);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function isListening(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
