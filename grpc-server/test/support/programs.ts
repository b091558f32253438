import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { runProcess, temporaryFolder } from '../../../test/support/child-process.ts';

const RUN_MS = 60_000;

export interface Run {
  readonly code: number | null;
  readonly out: string;
}

/** Runs a program to its end. A missing one fails with the name of the Debian package that has it. */
export async function run(file: string, args: readonly string[], debianPackage: string): Promise<Run> {
  try {
    const { code, out, err } = await runProcess(file, args, { encoding: 'latin1', timeoutMs: RUN_MS });
    return { code, out: out + err };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new Error(`${file} is not installed: install the Debian package ${debianPackage}`);
  }
}

/** Runs a Python script from standard input with the system's interpreter, which is the one that has grpcio. */
export async function runPython(script: string, args: readonly string[]): Promise<Run> {
  const python = '/usr/bin/python3';
  assert.ok(existsSync(python), `${python} is not installed: install the Debian package python3-grpcio`);
  const { code, ...text } = await runProcess(python, ['-', ...args], { input: script, timeoutMs: RUN_MS });
  const out = text.out + text.err;
  if (out.includes("No module named 'grpc'")) {
    throw new Error('Python gRPC is not installed: install the Debian package python3-grpcio');
  }
  return { code, out };
}

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** A self-signed certificate for localhost and 127.0.0.1, made by openssl, valid for a day. */
export function makeCertificate(): Certificate {
  const folder = temporaryFolder('certificate');
  try {
    const key = join(folder, 'key.pem');
    const cert = join(folder, 'cert.pem');
    const args =
      'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost ' +
      '-addext subjectAltName=DNS:localhost,IP:127.0.0.1';
    try {
      execFileSync('openssl', [...args.split(' '), '-keyout', key, '-out', cert], {
        stdio: 'ignore',
        timeout: RUN_MS,
      });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      throw new Error('openssl is not installed: install the Debian package openssl');
    }
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
