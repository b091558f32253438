import { createHash, generateKeyPairSync } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { temporaryFolder } from '../../support/child-process.ts';

export const issuer = 'https://issuer.test';
export const audience = 'presence';
const secret = 'a secret of the tests, 32 bytes or more';
const key = new TextEncoder().encode(secret);

/** Keys of backends, by what they may do. */
export const apiKeys = {
  read: 'key-that-may-read-0123456789',
  write: 'key-that-may-write-0123456789',
  admin: 'key-that-may-do-all-0123456789',
  nothing: 'key-without-scopes-0123456789',
};

export function apiKeysFile(): { file: string; remove: () => void } {
  const folder = temporaryFolder('keys');
  const file = join(folder, 'keys.json');
  writeFileSync(file, apiKeysText(apiKeys));
  return { file, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

export function apiKeysText(keys: Readonly<Record<string, string>>): string {
  return JSON.stringify(
    Object.entries(keys).map(([id, token]) => ({
      id,
      sha256: createHash('sha256').update(token).digest('hex'),
      scopes: id === 'nothing' ? [] : [`presence:${id}`],
    })),
  );
}

export function secureEnvironment(keysFile: string): Record<string, string> {
  return {
    AUTH: 'jwt,api-keys',
    AUTH_JWT_SECRET: secret,
    AUTH_JWT_ISSUER: issuer,
    AUTH_JWT_AUDIENCE: audience,
    AUTH_API_KEYS_FILE: keysFile,
    AUTH_CLOCK_TOLERANCE: '1s',
    RATE_LIMIT_AUTH_FAILURES: '0',
  };
}

export interface TokenFacts {
  readonly claims?: JWTPayload;
  readonly key?: Uint8Array;
  readonly alg?: string;
  readonly audience?: string;
  readonly issuer?: string;
  readonly notBefore?: number;
  /** Seconds from now; default 600. */
  readonly expiresIn?: number;
}

export function token(sub: string | undefined, facts: TokenFacts = {}): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const jwt = new SignJWT({ ...facts.claims })
    .setProtectedHeader({ alg: facts.alg ?? 'HS256' })
    .setIssuer(facts.issuer ?? issuer)
    .setAudience(facts.audience ?? audience)
    .setExpirationTime(now + (facts.expiresIn ?? 600));
  if (sub !== undefined) jwt.setSubject(sub);
  if (facts.notBefore !== undefined) jwt.setNotBefore(now + facts.notBefore);
  return jwt.sign(facts.key ?? key);
}

/** Tokens that nobody may enter with, whatever they ask. */
export async function badTokens(): Promise<Record<string, string>> {
  const good = await token('ada');
  const [head, body, signature = ''] = good.split('.');
  const flipped = signature.startsWith('A') ? `B${signature.slice(1)}` : `A${signature.slice(1)}`;
  const claims = { iss: issuer, aud: audience, sub: 'ada', exp: Math.floor(Date.now() / 1000) + 600 };
  const asAdmin = Buffer.from(JSON.stringify({ ...claims, scope: 'presence:admin' })).toString('base64url');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return {
    'bad signature': `${head}.${body}.${flipped}`,
    'no signature': `${head}.${body}.`,
    'claims of another token': `${head}.${asAdmin}.${signature}`,
    'alg none': new UnsecuredJWT(claims).encode(),
    'wrong key': await token('ada', { key: new TextEncoder().encode('another secret of 32 bytes or more') }),
    'right key, other algorithm': await token('ada', { alg: 'HS512', key: Buffer.concat([key, key]) }),
    'asymmetric algorithm': await new SignJWT(claims).setProtectedHeader({ alg: 'RS256' }).sign(privateKey),
    expired: await token('ada', { expiresIn: -60 }),
    'not yet valid': await token('ada', { notBefore: 3600 }),
    'wrong audience': await token('ada', { audience: 'billing' }),
    'wrong issuer': await token('ada', { issuer: 'https://elsewhere.test' }),
    'neither user nor scope': await token(undefined),
    'unknown key': 'key-that-nobody-knows-0123456789',
    garbage: 'a.b.c',
    'too long': 'x'.repeat(8193),
  };
}
