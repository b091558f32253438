import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { plainTokenWarning, printable } from './printable.ts';

describe('text of others on a terminal', () => {
  it('shows what could move the cursor, turn a line or hide', () => {
    assert.equal(printable('ada é 東京 😀'), 'ada é 東京 😀');
    assert.equal(printable('a\u001b[2Jb\nc\u009bd'), 'a\\u001b[2Jb\\u000ac\\u009bd');
    assert.equal(printable('\u202egnp.exe\u2066\u200f\u061c'), '\\u202egnp.exe\\u2066\\u200f\\u061c');
    assert.equal(printable('a\u200bb\u2028c\ufeff\u00ad'), 'a\\u200bb\\u2028c\\ufeff\\u00ad');
    assert.equal(printable('\u{e0041}\ud800'), '\\udb40\\udc41\\ud800');
    assert.equal(JSON.parse(printable(JSON.stringify('\u202e\u{e0041}'))), '\u202e\u{e0041}');
  });

  it('warns of a token that others can read', () => {
    for (const address of ['presence.example:50051', 'http://10.0.0.1:8080', '0.0.0.0:1']) {
      assert.match(plainTokenWarning(address, 't') ?? '', /in plain text/, address);
      assert.equal(plainTokenWarning(address, undefined), undefined);
    }
    for (const address of [
      'https://presence.example',
      'localhost:1',
      '127.0.0.1:50051',
      'http://[::1]:8080',
    ]) {
      assert.equal(plainTokenWarning(address, 't'), undefined, address);
    }
  });
});
