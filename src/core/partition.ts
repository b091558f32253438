const table = new Uint16Array(256);
for (let byte = 0; byte < 256; byte++) {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
  table[byte] = crc;
}

const utf8 = new TextEncoder();

/** CRC-16/XMODEM of a string's UTF-8 bytes: the hash of Redis Cluster's key slots. */
export function crc16(value: string): number {
  let crc = 0;
  for (let i = 0; i < value.length; i++) {
    const unit = value.charCodeAt(i);
    if (unit >= 0x80) return crc16Bytes(utf8.encode(value));
    crc = ((crc << 8) & 0xffff) ^ (table[(crc >> 8) ^ unit] as number);
  }
  return crc;
}

function crc16Bytes(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) crc = ((crc << 8) & 0xffff) ^ (table[(crc >> 8) ^ byte] as number);
  return crc;
}

/** The partition of a user: the unit of order, of the event log and of placement in Redis Cluster. */
export function partitionOf(userId: string, partitions: number): number {
  return crc16(userId) % partitions;
}
