/** The last guard before a text is kept or sent on: scripts print no secret, and what still looks like one is replaced. */

const SECRETS = [
  { what: "a private key", pattern: /-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?/g },
  { what: "a private key", pattern: /(?<=client-key-data: *)[A-Za-z0-9+/=]{20,}/g },
  { what: "an age identity", pattern: /AGE-SECRET-KEY-[0-9A-Z-]+/g },
  { what: "a service account token", pattern: /\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+/g },
  { what: "a certificate key", pattern: /(?<=--certificate-key )[0-9a-f]{64}\b/g },
  { what: "a bootstrap token", pattern: /\b[a-z0-9]{6}\.[a-z0-9]{16}\b/g },
  // newPassphrase() in prompt.ts
  { what: "a passphrase", pattern: /\b([0-9a-hjkmnp-tv-z]{4}-){5}[0-9a-hjkmnp-tv-z]{4}\b/g },
];

/** The text without its secrets, and what kind of secret was in it. */
export function redact(text: string): { text: string; what?: string } {
  let what: string | undefined;
  for (const secret of SECRETS) {
    const clean = text.replaceAll(secret.pattern, `<${secret.what}>`);
    if (clean !== text) what = secret.what;
    text = clean;
  }
  return what ? { text, what } : { text };
}
