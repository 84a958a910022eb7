/** A service-account token, taken apart. sa-keys.ts reads it. */

export interface Jwt {
  alg: string;
  /** "" if there is none, as in tokens from before Kubernetes 1.16. */
  kid: string;
  /** "system:serviceaccount:NAMESPACE:NAME", as the token says. */
  subject: string;
  /** Seconds since 1970; 0 if there is none, as in tokens from Secrets. */
  issuedAt: number;
  /** The signed part, header.payload, and the signature. */
  signed: string;
  signature: Buffer;
  text: string;
}
