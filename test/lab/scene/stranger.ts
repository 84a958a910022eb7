/** A control plane node of another cluster, made a month ago: its files are foreign to the lab's cluster. */
import { readFileSync } from "node:fs";
import { makeControlPlane } from "../../pretend/cluster.ts";

interface Stranger {
  text(file: string): string;
}

/** The name of its kubelet's client certificate. */
export const STRANGERS_CLIENT = "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem";

let made: Promise<Stranger> | undefined;

export function makeStranger(): Promise<Stranger> {
  made ??= make();
  return made;
}

async function make(): Promise<Stranger> {
  const now = new Date(Date.now() - 30 * 24 * 3600_000);
  const { root } = await makeControlPlane({
    now,
    facts: { nodeName: "m2", advertiseAddress: "10.1.1.1", keyAlgorithm: "RSA-2048" },
  });
  return { text: (file) => readFileSync(root + file, "utf8") };
}
