/** Changes to valid inputs, by a seed. */
import type { Random } from '../../../grpc-server/test/support/fuzz.ts';

const edgeBytes = [0, 9, 10, 13, 32, 34, 37, 44, 47, 58, 91, 92, 93, 123, 125, 0x7f, 0x80, 0xc0, 0xed, 0xff];
const edgeValues: readonly unknown[] = [
  null,
  true,
  '',
  0,
  -1,
  1.5,
  1e308,
  '9223372036854775808',
  '-1',
  [],
  {},
  [[]],
  'a'.repeat(129),
  '\u0000',
  '\ud800',
  '漢'.repeat(50),
  '__proto__',
  'constructor',
];

/** One to four changes at the level of bytes. */
export function mutateBytes(original: Buffer, random: Random): Buffer {
  let bytes = Buffer.from(original);
  for (let changes = 1 + random.int(4); changes > 0; changes--) {
    const at = random.int(bytes.length + 1);
    switch (random.int(6)) {
      case 0:
        if (at < bytes.length) bytes[at] = (bytes[at] as number) ^ (1 << random.int(8));
        break;
      case 1:
        if (at < bytes.length) bytes[at] = random.of(edgeBytes);
        break;
      case 2:
        bytes = bytes.subarray(0, at);
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), randomBytes(random), bytes.subarray(at)]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.int(8))]);
        break;
      default:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(random.int(at + 1))]);
    }
  }
  return bytes;
}

export function randomBytes(random: Random, most = 12): Buffer {
  return Buffer.from(Array.from({ length: 1 + random.int(most) }, () => random.int(256)));
}

/** Text that may hold anything but what ends a line. */
export function mutateLine(original: string, random: Random): string {
  return mutateBytes(Buffer.from(original, 'latin1'), random)
    .toString('latin1')
    .replaceAll(/[\r\n]/g, '');
}

/** A change somewhere in a JSON value: another value, a field more, a field less, a list made long. */
export function mutateJson(value: unknown, random: Random): unknown {
  if (Array.isArray(value)) {
    if (random.int(3) === 0) return random.of(edgeValues);
    if (value.length === 0) return [random.of(edgeValues)];
    const at = random.int(value.length);
    if (random.int(4) === 0) return Array.from({ length: random.int(50) }, () => value[at] as unknown);
    return value.map((item, index) => (index === at ? mutateJson(item, random) : (item as unknown)));
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value);
    const at = random.int(entries.length + 1);
    const chosen = entries[at];
    if (chosen === undefined) return { ...value, [random.of(['x', 'userId', '__proto__', 'frame'])]: 1 };
    if (random.int(6) === 0) return Object.fromEntries(entries.filter(([name]) => name !== chosen[0]));
    return { ...value, [chosen[0]]: mutateJson(chosen[1], random) };
  }
  if (typeof value === 'string' && random.int(2) === 0) {
    return mutateBytes(Buffer.from(value), random).toString();
  }
  return random.of(edgeValues);
}
