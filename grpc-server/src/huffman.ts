/**
 * The Huffman code of HPACK (RFC 7541 §5.2 and appendix B).
 *
 * The code is canonical: codes of one length are consecutive, in symbol order, so the lengths are enough to
 * rebuild it. Decoding walks a table by nibbles: (state, 4 bits) -> next state, and at most one symbol,
 * because the shortest code has 5 bits. Time is linear in the input and nothing is allocated but the result.
 */

const EOS = 256;
const EOS_LENGTH = 30;

/** Code length in bits of the symbols 0..255, then EOS. */
const CODE_LENGTHS: readonly number[] = [
  13,
  23,
  28,
  28,
  28,
  28,
  28,
  28,
  28,
  24,
  30,
  28,
  28,
  30,
  28,
  28,
  28,
  28,
  28,
  28,
  28,
  28,
  30,
  28,
  28,
  28,
  28,
  28,
  28,
  28,
  28,
  28,
  6,
  10,
  10,
  12,
  13,
  6,
  8,
  11,
  10,
  10,
  8,
  11,
  8,
  6,
  6,
  6,
  5,
  5,
  5,
  6,
  6,
  6,
  6,
  6,
  6,
  6,
  7,
  8,
  15,
  6,
  12,
  10,
  13,
  6,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  7,
  8,
  7,
  8,
  13,
  19,
  13,
  14,
  6,
  15,
  5,
  6,
  5,
  6,
  5,
  6,
  6,
  6,
  5,
  7,
  7,
  6,
  6,
  6,
  5,
  6,
  7,
  6,
  5,
  5,
  6,
  7,
  7,
  7,
  7,
  7,
  15,
  11,
  14,
  13,
  28,
  20,
  22,
  20,
  20,
  22,
  22,
  22,
  23,
  22,
  23,
  23,
  23,
  23,
  23,
  24,
  23,
  24,
  24,
  22,
  23,
  24,
  23,
  23,
  23,
  23,
  21,
  22,
  23,
  22,
  23,
  23,
  24,
  22,
  21,
  20,
  22,
  22,
  23,
  23,
  21,
  23,
  22,
  22,
  24,
  21,
  22,
  23,
  23,
  21,
  21,
  22,
  21,
  23,
  22,
  23,
  23,
  20,
  22,
  22,
  22,
  23,
  22,
  22,
  23,
  26,
  26,
  20,
  19,
  22,
  23,
  22,
  25,
  26,
  26,
  26,
  27,
  27,
  26,
  24,
  25,
  19,
  21,
  26,
  27,
  27,
  26,
  27,
  24,
  21,
  21,
  26,
  26,
  28,
  27,
  27,
  27,
  20,
  24,
  20,
  21,
  22,
  21,
  21,
  23,
  22,
  22,
  25,
  25,
  24,
  24,
  26,
  23,
  26,
  27,
  26,
  26,
  27,
  27,
  27,
  27,
  27,
  28,
  27,
  27,
  27,
  27,
  27,
  26,
  EOS_LENGTH,
];

const LENGTHS = Uint8Array.from(CODE_LENGTHS);
const CODES = canonicalCodes();

function canonicalCodes(): Uint32Array {
  const codes = new Uint32Array(LENGTHS.length);
  let code = 0;
  for (let length = 5; length <= EOS_LENGTH; length++) {
    for (let symbol = 0; symbol < LENGTHS.length; symbol++) {
      if (LENGTHS[symbol] === length) codes[symbol] = code++;
    }
    code *= 2;
  }
  return codes;
}

// One entry of TRANSITIONS: next state in bits 0-7, EMIT, FAIL, symbol in bits 16-23.
const EMIT = 0x100;
const FAIL = 0x200;

/** 1 where the bits since the last symbol are at most 7 ones: legal padding (RFC 7541 §5.2). */
const ACCEPTING = new Uint8Array(256);
const TRANSITIONS = buildTransitions();

function buildTransitions(): Uint32Array {
  // The binary tree: children[2 * node + bit] is an inner node, or ~symbol for a leaf.
  const children: number[] = [0, 0];
  let nodes = 1;
  for (let symbol = 0; symbol < LENGTHS.length; symbol++) {
    const length = LENGTHS[symbol] as number;
    const code = CODES[symbol] as number;
    let node = 0;
    for (let bit = length - 1; bit > 0; bit--) {
      const slot = 2 * node + ((code >>> bit) & 1);
      if (children[slot] === 0) {
        children[slot] = nodes++;
        children.push(0, 0);
      }
      node = children[slot] as number;
    }
    children[2 * node + (code & 1)] = ~symbol;
  }

  for (let node = 0, depth = 0; depth < 8; depth++) {
    ACCEPTING[node] = 1;
    node = children[2 * node + 1] as number;
  }

  const transitions = new Uint32Array(nodes * 16);
  for (let state = 0; state < nodes; state++) {
    for (let nibble = 0; nibble < 16; nibble++) {
      let node = state;
      let entry = 0;
      for (let bit = 3; bit >= 0; bit--) {
        const child = children[2 * node + ((nibble >>> bit) & 1)] as number;
        if (child >= 0) {
          node = child;
        } else if (~child === EOS) {
          entry = FAIL;
          break;
        } else {
          entry |= EMIT | (~child << 16);
          node = 0;
        }
      }
      transitions[state * 16 + nibble] = entry | node;
    }
  }
  return transitions;
}

let scratch = Buffer.allocUnsafeSlow(1024);

/**
 * Decodes `bytes[start, end)` to a latin1 string, one character per octet.
 * Returns undefined when the input is not a legal string: EOS inside, padding over 7 bits or not all ones.
 */
export function huffmanDecode(bytes: Uint8Array, start: number, end: number): string | undefined {
  // Codes have at least 5 bits: the result is at most 8/5 of the input.
  const needed = (end - start) * 2;
  if (scratch.length < needed) scratch = Buffer.allocUnsafeSlow(needed);
  const out = scratch;
  let length = 0;
  let state = 0;
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number;
    let entry = TRANSITIONS[state * 16 + (byte >>> 4)] as number;
    if ((entry & EMIT) !== 0) out[length++] = entry >>> 16;
    if ((entry & FAIL) !== 0) return undefined;
    entry = TRANSITIONS[(entry & 0xff) * 16 + (byte & 15)] as number;
    if ((entry & EMIT) !== 0) out[length++] = entry >>> 16;
    if ((entry & FAIL) !== 0) return undefined;
    state = entry & 0xff;
  }
  if (ACCEPTING[state] === 0) return undefined;
  return out.toString('latin1', 0, length);
}

/** Octets that the Huffman form of a latin1 string takes. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += LENGTHS[text.charCodeAt(i) & 0xff] as number;
  return (bits + 7) >>> 3;
}

/** Writes the Huffman form of a latin1 string at `at`; returns the position after it. */
export function huffmanEncode(text: string, target: Uint8Array, at: number): number {
  let position = at;
  let pending = 0;
  let pendingBits = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i) & 0xff;
    let code = CODES[symbol] as number;
    let length = LENGTHS[symbol] as number;
    // At most 7 bits are pending: shift in at most 16 at a time to stay within 32.
    if (length > 16) {
      pending = (pending << (length - 16)) | (code >>> 16);
      pendingBits += length - 16;
      code &= 0xffff;
      length = 16;
      while (pendingBits >= 8) {
        pendingBits -= 8;
        target[position++] = pending >>> pendingBits;
      }
      pending &= (1 << pendingBits) - 1;
    }
    pending = (pending << length) | code;
    pendingBits += length;
    while (pendingBits >= 8) {
      pendingBits -= 8;
      target[position++] = pending >>> pendingBits;
    }
    pending &= (1 << pendingBits) - 1;
  }
  if (pendingBits > 0) target[position++] = (pending << (8 - pendingBits)) | (0xff >>> pendingBits);
  return position;
}
