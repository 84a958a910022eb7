/**
 * The ECDSA public keys that one token can have been signed with: always two, one for each point whose x is r (SEC 1 §4.1.6). Both verify
 * that token, so only the kid or another token shows which. (x = r + n is possible, too, once in 2^128 signatures.)
 */
import { createPublicKey } from "node:crypto";
import { p256, p384, p521 } from "@noble/curves/nist.js";
import { JWS } from "../pki/keys.ts";
import type { Jwt } from "../pki/tokens.ts";

const CURVES = { "P-256": p256, "P-384": p384, "P-521": p521 };

/** In PEM; none where the signature cannot be one of the algorithm. */
export function ecKeys({ alg, signed, signature }: Jwt): string[] {
  const crv = JWS.get(alg)?.crv;
  const curve = crv && CURVES[crv];
  if (!curve || signature.length !== curve.lengths.signature) return [];
  return [0, 1].flatMap((parity) => {
    try {
      const key = curve.recoverPublicKey(Buffer.concat([Buffer.of(parity), signature]), Buffer.from(signed));
      return [publicKey(crv, Buffer.from(curve.Point.fromBytes(key).toBytes(false).subarray(1)))];
    } catch (err) {
      // a number that is zero or too large, or an x that no point has
      if (err instanceof Error && /^(invalid (signature|field element|recovery)|bad point)/.test(err.message)) return [];
      throw err;
    }
  });
}

/** `point`: x and y. */
function publicKey(crv: string, point: Buffer): string {
  const [x, y] = [point.subarray(0, point.length / 2), point.subarray(point.length / 2)].map((half) => half.toString("base64url"));
  return String(createPublicKey({ key: { kty: "EC", crv, x: x!, y: y! }, format: "jwk" }).export({ type: "spki", format: "pem" }));
}
