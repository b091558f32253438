import { Code, Flag, headers } from '../support/frames.ts';
import { encode, integer } from '../support/hpack.ts';
import { plainFields } from '../support/requests.ts';
import { type Case, connectionError } from './case.ts';

const BLOCK = encode(plainFields());

/** A request whose header block breaks RFC 7541: always a connection error of type COMPRESSION_ERROR. */
export function badBlock(
  id: string,
  title: string,
  tail: string,
  before: Uint8Array = Buffer.alloc(0),
): Case {
  const block = Buffer.concat([before, BLOCK, Buffer.from(tail.replaceAll(' ', ''), 'hex')]);
  return {
    id,
    title,
    send: headers(1, block, Flag.END_HEADERS | Flag.END_STREAM),
    expect: connectionError(Code.COMPRESSION_ERROR),
  };
}

const USER_AGENT = Buffer.from('\nuser-agent').toString('hex');

/** h2spec's group "hpack". */
export const hpackCases: readonly Case[] = [
  badBlock('hpack/2.3.3/1', 'an indexed field beyond the table', 'c6'),
  badBlock('hpack/2.3.3/2', 'a literal whose name index is beyond the table', '7f 07 00'),
  badBlock('hpack/4.2/1', 'a table size update after fields', '21'),
  badBlock('hpack/5.2/1', 'a Huffman string padded by more than seven bits', `00 ${USER_AGENT} 84 49509fff`),
  badBlock('hpack/5.2/2', 'a Huffman string padded with zeros', `00 ${USER_AGENT} 83 495090`),
  badBlock('hpack/5.2/3', 'a Huffman string with EOS', `00 ${USER_AGENT} 87 4951fffffffa7f`),
  badBlock('hpack/6.1/1', 'an indexed field with index 0', '80'),
  badBlock('hpack/6.3/1', 'a table size update above the setting', '', integer(4097, 5, 0x20)),
];
