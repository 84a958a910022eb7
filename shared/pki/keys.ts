/** New key pairs, as kubeadm makes and writes them: PKCS#1 for RSA, SEC1 for ECDSA. */
import { generateKeyPair } from "node:crypto";
import { availableParallelism } from "node:os";
import { promisify } from "node:util";
import type { KeyAlgorithm } from "./certs.ts";

/** A fresh key: the private one in PEM, the public one as SPKI, in PEM. */
export interface KeyPair {
  key: string;
  pub: string;
}

const generate = promisify(generateKeyPair);

/** Makes a key pair on a thread of its own: several at once use all cores. */
export async function keyPair(algorithm: KeyAlgorithm): Promise<KeyPair> {
  const [family, size = ""] = algorithm.split("-");
  const pub = { type: "spki", format: "pem" } as const;
  const { privateKey, publicKey } =
    family === "RSA"
      ? await generate("rsa", { modulusLength: Number(size), publicKeyEncoding: pub, privateKeyEncoding: { type: "pkcs1", format: "pem" } })
      : await generate("ec", {
          namedCurve: `P-${size.slice(1)}`,
          publicKeyEncoding: pub,
          privateKeyEncoding: { type: "sec1", format: "pem" },
        });
  return { key: privateKey, pub: publicKey };
}

/**
 * Makes `count` keys, one more at a time than there are cores (none is idle while this thread writes), and gives out whichever is ready
 * first: certificates are signed and written while later keys are still being made. Asked for more, it makes more.
 */
export function keyStock(algorithm: KeyAlgorithm, count: number): () => Promise<KeyPair> {
  const ready: Promise<KeyPair>[] = [];
  const waiting: ((pair: Promise<KeyPair>) => void)[] = [];
  let begun = 0;
  const makeNext = () => {
    if (begun++ >= count) return;
    const pair = keyPair(algorithm);
    const hand = () => {
      const taker = waiting.shift();
      taker ? taker(pair) : ready.push(pair);
      makeNext();
    };
    pair.then(hand, hand);
  };
  for (let core = 0; core < availableParallelism() + 1; core++) makeNext();
  let promised = 0;
  return () => {
    if (promised++ >= count) return keyPair(algorithm);
    return ready.shift() ?? new Promise((resolve) => waiting.push(resolve));
  };
}
