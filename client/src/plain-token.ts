const warned = new Set<string>();

/** Warns once for each host to which a token is sent in plain text, where others on the way can read it. */
export function warnOfPlainToken(url: string | URL | undefined): void {
  if (url === undefined) return;
  const target = new URL(url);
  if (!/^(http|ws):$/.test(target.protocol)) return;
  const { hostname } = target;
  const isLocal = hostname === '[::1]' || /(^|\.)localhost$/.test(hostname) || /^127\./.test(hostname);
  if (isLocal || warned.has(hostname)) return;
  warned.add(hostname);
  console.warn(`pilotlight: the token is sent to ${hostname} in plain text; use https: or wss:`);
}
