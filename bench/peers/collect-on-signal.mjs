// Loaded into every compared server: SIGUSR2 has its garbage collected.
process.on('SIGUSR2', () => {
  globalThis.gc();
  globalThis.gc();
});
