/** A node in the damage of each page of docs/, by the page's name: what it shows is on that page. */
import { truncateSync } from "node:fs";
import { assess } from "../../shared/assess/assess.ts";
import { type AssessmentJson, assessmentAsJson } from "../../shared/assess/assessment.ts";
import { lookHere } from "../../shared/assess/look-here.ts";
import { certRow } from "../../shared/pki/certs.ts";
import type { SymptomName } from "../../tools/docs/symptoms.ts";
import { purgedEtcd } from "./busy-etcd.ts";
import { ADDRESS, healthyCp, otherCa } from "./cluster.ts";
import { writeDamaged } from "./damaged-etcd.ts";
import { ageFile, expireCertificates, YEAR_MS } from "./expired.ts";
import { gone, lookAt, type PretendNode, put } from "./in-process.ts";
import { LAYOUTS } from "./layouts.ts";
import { SHOWN_ADDRESS } from "./node.ts";

type On = Parameters<typeof lookAt>[0];

const { ca } = await healthyCp();

const well = (change: (node: PretendNode) => unknown, more: On = {}): On => ({
  ...{ kind: "healthy control plane node", change, ...more },
});

/** The kubelet has given up. */
const STOPPED = ["is-active --quiet kubelet", "is-active kubelet"].map((words) => ({
  ...{ command: `systemctl ${words}`, does: "echo activating; exit 3" },
}));

async function age(root: string, ...paths: string[]) {
  for (const path of paths) await ageFile(root + path, ca.key, 2 * YEAR_MS);
}

const CONFIGS = ["admin", "controller-manager", "scheduler"].map((name) => `/etc/kubernetes/${name}.conf`);
const CLIENT = "/var/lib/kubelet/pki/kubelet-client-2026-01-02-03-04-05.pem";

async function ageAll({ root }: Pick<PretendNode, "root">) {
  await expireCertificates(root);
  await age(root, ...CONFIGS, CLIENT);
}

async function anotherCa({ root }: Pick<PretendNode, "root">) {
  const { cert, key } = await otherCa();
  put({ "pki/ca.crt": cert, "pki/ca.key": key })({ root });
}

const damageDatabase = ({ root }: PretendNode) =>
  writeDamaged(`${root}/var/lib/etcd`, "root-both", { seed: 1, source: purgedEtcd(3606) });

const ETCD_ROWS = (["etcd-server", "etcd-peer", "apiserver-etcd-client"] as const).map((name) =>
  certRow(name),
);

const unit = (layout: "kubespray" | "KubeKey"): On => ({
  ...LAYOUTS[layout],
  async change({ root }) {
    LAYOUTS[layout].change({ root });
    await age(root, ...CONFIGS, CLIENT);
  },
});

const MOVED = {
  command: "ip -j addr",
  stdout: JSON.stringify([{ addr_info: [{ scope: "global", local: "10.9.9.9" }] }]),
};

const NODES: Record<SymptomName, On> = {
  "certificate-has-expired": well(ageAll),
  "connection-refused-after-renew-all": well(({ root }) => age(root, CLIENT), { commands: STOPPED }),
  "bootstrap-kubelet-conf": { kind: "worker", commands: STOPPED, change: ({ root }) => age(root, CLIENT) },
  "must-be-logged-in": well(({ root }) => age(root, CONFIGS[0]!)),
  "signed-by-unknown-authority": well(anotherCa),
  "client-ca-file": {},
  "ca-key": well(gone("pki/ca.key")),
  "invalid-bearer-token": well(gone("pki/sa.key", "pki/sa.pub")),
  "no-pem-data": well(({ root }) => truncateSync(`${root}/etc/kubernetes/pki/apiserver.crt`, 0)),
  "etcd-bad-certificate": well(({ root }) => expireCertificates(root, ETCD_ROWS)),
  "apiserver-etcd-client": unit("kubespray"),
  "etcd-ca-crt": unit("KubeKey"),
  "certificate-is-valid-for": well(() => undefined, { commands: [MOVED] }),
  "page-expected": well(damageDatabase),
};

/** A control plane node whose certificates have all expired. */
export const expiredNode: On = NODES["certificate-has-expired"];

/** What 00-assess says of the node in this damage. */
export async function assessedIn(name: SymptomName): Promise<AssessmentJson> {
  return await lookAt(NODES[name], async ({ root }) => {
    const assessed = assessmentAsJson(await assess(await lookHere(undefined)));
    return JSON.parse(JSON.stringify(assessed).replaceAll(root, "").replaceAll(ADDRESS, SHOWN_ADDRESS));
  });
}
