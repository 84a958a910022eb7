/**
 * A snapshot of a running etcd by its own API: the database, then its SHA-256, as `etcdctl snapshot save`
 * writes it. Source: etcd server/etcdserver/api/v3rpc/maintenance.go (Snapshot); the gateway sends a line of
 * JSON for each piece.
 */
import { createHash } from "node:crypto";
import { Fail } from "../fail.ts";
import { quoteUntrusted } from "../plain.ts";
import type { EtcdClient } from "./client.ts";

const SUM = 32;
const HINT = "see whether etcd is well: ./bunw scripts/05-verify.ts. Then run the same line again";

/** Streams it in pieces. Errors: Fail if etcd breaks it off, or if the sum does not match. */
export async function* snapshotOfEtcd(client: EtcdClient): AsyncGenerator<Uint8Array> {
  const hash = createHash("sha256");
  let tail = Buffer.alloc(0);
  for await (const line of linesOf(await client.snapshotLines())) {
    const piece = pieceIn(line, client.endpoint);
    const known = Buffer.concat([tail, piece]);
    const end = Math.max(0, known.length - SUM);
    hash.update(known.subarray(0, end));
    tail = Buffer.from(known.subarray(end));
    yield piece;
  }
  if (tail.length === SUM && hash.digest().equals(tail)) return;
  throw new Fail(`The snapshot of etcd at ${client.endpoint} was cut off, or changed on its way`, {
    hint: HINT,
  });
}

function pieceIn(line: string, endpoint: string): Buffer {
  const { result, error } = JSON.parse(line) as { result?: { blob?: string }; error?: { message?: string } };
  if (result) return Buffer.from(result.blob ?? "", "base64");
  throw new Fail(`etcd at ${endpoint} stopped its snapshot: ${quoteUntrusted(error?.message ?? line)}`, {
    hint: HINT,
  });
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let begun: string[] = [];
  for await (const bytes of stream) {
    const [first = "", ...more] = Buffer.from(bytes).toString("latin1").split("\n");
    begun.push(first);
    for (const next of more) {
      if (begun.some(Boolean)) yield begun.join("");
      begun = [next];
    }
  }
  if (begun.some(Boolean)) yield begun.join("");
}
