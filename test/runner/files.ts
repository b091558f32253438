/** Which files are tests. */
export const patterns: readonly string[] = ['src', 'test', 'grpc-server', 'client', 'dashboard'].map(
  (folder) => `${folder}/**/*.test.ts`,
);

/** Those that take longest, the slowest first. */
export const slowFiles: readonly string[] = [
  'test/faults/faults.test.ts',
  'src/store/redis/redis-modes.test.ts',
  'grpc-server/test/fuzz.test.ts',
];
