/** Longest wait of a Node timer, ms. */
export const maxTimerMs = 2 ** 31 - 1;
