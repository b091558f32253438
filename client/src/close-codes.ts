/** Whether a client is to come back after a close code (docs/protocol.md). */
export function comesBack(closeCode: number): boolean {
  if (closeCode >= 3000) return closeCode % 1000 < 500;
  return [1001, 1005, 1006, 1007, 1009, 1011, 1012, 1013, 1014].includes(closeCode);
}
