/**
 * Seven states of a node in which an operator types 00-assess or 05-verify: a disaster each, and one that is well. What
 * the screens say of each is in test/typed/first-screens.test.ts.
 */
import { readdirSync, rmSync } from "node:fs";
import { KUBECONFIGS } from "../../shared/pki/kubeconfigs.ts";
import { sameEtcd, serveEtcd } from "./etcd.ts";
import { ageFile, expireCertificates } from "./expired.ts";
import { type NodeOptions, pretendNode } from "./node.ts";
import { serveRunning } from "./running.ts";

type Made = Awaited<ReturnType<typeof pretendNode>>;

interface State {
  options: NodeOptions;
  change?: (node: Made) => Promise<void> | void;
  /** Its servers answer. */
  serves?: "etcd" | "etcd and the API";
}

const KUBELET = "/var/lib/kubelet/pki";
const CP: NodeOptions = { kind: "healthy control plane node" };

export const STATES = {
  expired: { options: CP, change: expireAll },
  "all lost": { options: {} },
  "one CA lost": {
    options: CP,
    change: ({ root }) => {
      for (const end of ["crt", "key"]) rmSync(`${root}/etc/kubernetes/pki/ca.${end}`);
    },
    serves: "etcd and the API",
  },
  "etcd's data gone": {
    options: CP,
    change: ({ root }) => rmSync(`${root}/var/lib/etcd`, { recursive: true }),
  },
  "the API is away": { options: CP, serves: "etcd" },
  "a worker has expired": {
    options: { kind: "worker" },
    change: async ({ root, ca }) => await ageClient(root, ca.key),
  },
  healthy: { options: CP, serves: "etcd and the API" },
} as const satisfies Record<string, State>;

export type StateName = keyof typeof STATES;

/** The node in this state, its servers with it. */
export async function nodeInState(name: StateName) {
  const { options, change, serves }: State = STATES[name];
  const node = await pretendNode(options);
  const servers = [
    ...(serves ? [serveEtcd(node.root, sameEtcd(node.stored))] : []),
    ...(serves === "etcd and the API" ? [serveRunning(node)] : []),
  ];
  await change?.(node);
  return Object.assign(node, {
    [Symbol.dispose]: joined(node[Symbol.dispose].bind(node), servers),
  });
}

function joined(first: () => void, servers: readonly Disposable[]) {
  return () => {
    for (const server of servers) server[Symbol.dispose]();
    first();
  };
}

async function expireAll({ root, ca }: Made) {
  await expireCertificates(root);
  for (const { path } of KUBECONFIGS)
    if (await Bun.file(root + path).exists()) await ageFile(root + path, ca.key);
  await ageClient(root, ca.key);
}

/** The kubelet's link leads outside of the pretend root. */
async function ageClient(root: string, caKey: string) {
  const files = readdirSync(root + KUBELET).filter((name) => /^kubelet-client-2.*\.pem$/.test(name));
  for (const name of files) await ageFile(`${root}${KUBELET}/${name}`, caKey);
}
