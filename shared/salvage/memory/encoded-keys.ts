/** Finds private keys in memory in the form of files: PEM (RFC 7468), or DER of PKCS#1 and SEC1, also within PKCS#8 or PEM's decoded body. */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { orUndefined } from "../../pki/certificate.ts";
import { type Curve, keyFromScalar } from "./ecdsa.ts";

const PEM_BEGIN = Buffer.from("-----BEGIN ");
/** Characters; an RSA-4096 key's PEM has about 3,300. */
const PEM_LONGEST = 4096;
const PEM_KEY = /^-----BEGIN ((?:RSA |EC )?PRIVATE KEY)-----\r?\n[A-Za-z0-9+/=\s]+-----END \1-----/;

type Wanted = ReadonlySet<string>;
type DerReader = (bytes: Buffer, at: number, wanted: Wanted) => KeyObject | undefined;

/** Marks inside of DER: a key is before or behind them. */
const DER_MARKS: readonly { mark: Buffer; read: DerReader }[] = [
  // RSAPrivateKey (RFC 8017 §A.1.2): SEQUENCE with a long length, version 0, a modulus with a long length
  { mark: Buffer.from("0201000282", "hex"), read: pkcs1 },
  // ECPrivateKey (RFC 5915 §3): version 1, then the scalar, 32 or 48 bytes
  { mark: Buffer.from("0201010420", "hex"), read: sec1("P-256", 32) },
  { mark: Buffer.from("0201010430", "hex"), read: sec1("P-384", 48) },
];

/** Private keys that are whole in these bytes; what only looks like one is skipped. Some may not be wanted. */
export function* encodedKeysIn(bytes: Uint8Array, wanted: Wanted): Generator<KeyObject> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const at of places(buffer, PEM_BEGIN)) {
    const pem = PEM_KEY.exec(buffer.toString("latin1", at, at + PEM_LONGEST))?.[0];
    const key = pem && orUndefined(() => createPrivateKey(pem));
    if (key) yield key;
  }
  for (const { mark, read } of DER_MARKS) {
    for (const at of places(buffer, mark)) {
      const key = read(buffer, at, wanted);
      if (key) yield key;
    }
  }
}

function* places(buffer: Buffer, mark: Buffer): Generator<number> {
  for (let at = buffer.indexOf(mark); at >= 0; at = buffer.indexOf(mark, at + 1)) yield at;
}

function sec1(curve: Curve, size: number): DerReader {
  return (bytes, at, wanted) => keyFromScalar(curve, bytes.subarray(at + 5, at + 5 + size), wanted);
}

function pkcs1(bytes: Buffer, at: number): KeyObject | undefined {
  const begin = at - 4;
  if (begin < 0 || bytes[begin] !== 0x30 || bytes[begin + 1] !== 0x82) return undefined;
  const end = at + bytes.readUInt16BE(begin + 2);
  if (end > bytes.length) return undefined;
  const key = Buffer.from(bytes.subarray(begin, end));
  return orUndefined(() => createPrivateKey({ key, format: "der", type: "pkcs1" }));
}
