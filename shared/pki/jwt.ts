/** Service-account tokens taken apart (RFC 7515). What they say is not believed here: nothing has checked the signature yet. */

export interface Jwt {
  alg: string;
  /** "" where there is none, as in tokens from before Kubernetes 1.16. */
  kid: string;
  /** Seconds since 1970; 0 where there is none, as in tokens from Secrets. */
  issuedAt: number;
  /** header.payload, which is what was signed, and the signature. */
  signed: string;
  signature: Buffer;
  text: string;
}

/** A service-account token, or undefined where the text is none. */
export function readJwt(text: string): Jwt | undefined {
  const trimmed = text.trim();
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(trimmed)) return undefined;
  const [header = "", payload = "", signature = ""] = trimmed.split(".");
  const [head, claims] = [json(header), json(payload)];
  if (typeof head.alg !== "string" || typeof claims.sub !== "string" || !claims.sub.startsWith("system:serviceaccount:")) return undefined;
  return {
    alg: head.alg,
    kid: typeof head.kid === "string" ? head.kid : "",
    issuedAt: typeof claims.iat === "number" && Number.isFinite(claims.iat) ? claims.iat : 0,
    signed: `${header}.${payload}`,
    signature: Buffer.from(signature, "base64url"),
    text: trimmed,
  };
}

/** An unsigned number, as keys and signatures write it: big-endian. */
export function numberOf(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString("hex") || "0"}`);
}

/** The same back, for a JWK (RFC 7518 §2, Base64urlUInt); of at least `length` bytes. */
export function base64url(number: bigint, length = 1): string {
  const hex = number.toString(16);
  return Buffer.from(hex.padStart(Math.max(length * 2, hex.length + (hex.length % 2)), "0"), "hex").toString("base64url");
}

/** No object at all where it is no JSON. */
function json(part: string): Record<string, unknown> {
  try {
    const value = JSON.parse(Buffer.from(part, "base64url").toString()) as unknown;
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch (err) {
    if (err instanceof SyntaxError) return {};
    throw err;
  }
}
