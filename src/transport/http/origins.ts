/**
 * Whether a browser's page of `origin` may use this server. Pages of the server itself may, and those on the allow-list;
 * what sends no Origin is no page.
 *
 * @param origin the Origin header
 * @param host the Host header (or :authority)
 * @param allowed ALLOWED_ORIGINS: `https://app.example.com`
 */
export function isAllowedOrigin(
  origin: string | undefined,
  host: string | undefined,
  allowed: readonly string[],
): boolean {
  if (origin === undefined) return true;
  if (allowed.includes(origin)) return true;
  return URL.canParse(origin) && host !== undefined && new URL(origin).host === host.toLowerCase();
}
