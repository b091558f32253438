import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';

/** Makes `NAME.key` and `NAME.pem` of an authority. Needs openssl. */
export function makeAuthority(path: (name: string) => string, name: string): void {
  openssl(
    'req',
    '-x509',
    ...newKey(path, name),
    '-out',
    path(`${name}.pem`),
    '-days',
    '2',
    '-subj',
    `/CN=${name}`,
  );
}

/** Makes `NAME.key` and `NAME.pem` of this machine, signed by the authority. */
export function makeCertificate(path: (name: string) => string, authority: string, name: string): void {
  openssl('req', ...newKey(path, name), '-out', path(`${name}.csr`), '-subj', `/CN=${name}`);
  writeFileSync(path(`${name}.ext`), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  const signer = ['-CA', path(`${authority}.pem`), '-CAkey', path(`${authority}.key`), '-CAcreateserial'];
  const extensions = ['-extfile', path(`${name}.ext`), '-days', '2'];
  openssl('x509', '-req', '-in', path(`${name}.csr`), ...signer, '-out', path(`${name}.pem`), ...extensions);
}

function newKey(path: (name: string) => string, name: string): string[] {
  const curve = ['-pkeyopt', 'ec_paramgen_curve:P-256'];
  return ['-newkey', 'ec', ...curve, '-nodes', '-keyout', path(`${name}.key`)];
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe', timeout: 30_000 });
}
