/**
 * What a salvage decides: which keys are lost, what is proved and put back, and what comes next. Memory,
 * Secrets and copies; no disk.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { failOf } from "../../../shared/fail.ts";
import { publicPem } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { searchSecrets } from "../../../shared/salvage/keys-in-copies.ts";
import { lookForLost, nextAfterSalvage } from "../../../shared/salvage/look.ts";
import { searchMemory } from "../../../shared/salvage/memory-search.ts";
import { putBack } from "../../../shared/salvage/put-back.ts";
import { clusterObjects, FACTS, healthyCp, otherCa, write } from "../../pretend/cluster.ts";
import { decisions } from "../../pretend/decisions.ts";
import { gone, lookAt, type PretendNode as Node, put } from "../../pretend/in-process.ts";
import { bigInt, POD_UID, type PretendProcess, podRecord, pretendProcess } from "../../pretend/memory.ts";
import type { NodeOptions } from "../../pretend/node.ts";
import { tokenBy } from "../../pretend/old-keys.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();
const CONF = "/etc/kubernetes";
const pki = (file: string) => readFileSync(`${healthy}${CONF}/pki/${file}`, "utf8");
const scalar = (file: string) => bigInt(createPrivateKey(pki(file)));
const OWN = { key: pki("sa.key"), pub: pki("sa.pub") };
const MANAGER: PretendProcess = {
  pid: 31,
  comm: "kube-controller",
  holds: [scalar("ca.key"), Buffer.from(OWN.key)],
};
const STRANGER: PretendProcess = {
  pid: 41,
  comm: "kube-controller",
  holds: [scalar("ca.key")],
  cgroup: "/user.slice",
};
const later = await otherCa();
const expired = await issueCa(certRow("ca"), FACTS, {
  key: { key: pki("ca.key"), pub: publicPem(pki("ca.key")) },
  now: new Date("2010-01-01"),
});

interface Row {
  what: string;
  on?: NodeOptions;
  change?: (node: Node) => unknown;
  /** Still run. */
  processes?: PretendProcess[];
  /** As the operator says. */
  said?: Partial<Parameters<typeof lookForLost>[1]>;
  moveToRescue?: boolean;
}

const WELL = { kind: "healthy control plane node" } as const;
/** A pod of kube-system that has a token of the lost key. */
const token = ({ root }: Node) => {
  podRecord(root, "kube-system", "kube-proxy-x", POD_UID);
  const text = tokenBy(OWN, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1000 });
  write(
    `${root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access/token`,
    text,
  );
};
/** Copies of the keys in a folder of the operator's. */
const copies =
  (...files: string[]) =>
  ({ root }: Node) => {
    for (const file of files) write(`${root}/srv/copies/${file}`, pki(file));
  };
const policy = ({ root }: Node) =>
  write(`${root}/srv/copies/policy.yaml`, "apiVersion: audit.k8s.io/v1\nkind: Policy\n");
const ALL = [
  "ca.crt",
  "ca.key",
  "front-proxy-ca.crt",
  "front-proxy-ca.key",
  "etcd/ca.crt",
  "etcd/ca.key",
  "sa.key",
  "sa.pub",
];

const ROWS: Row[] = [
  { what: "nothing is lost", on: WELL },
  { what: "all is lost, and nothing runs" },
  { what: "all is lost, and memory has two keys", change: token, processes: [MANAGER] },
  { what: "all is lost, and memory has them; no token proves sa.key", processes: [MANAGER] },
  { what: "all is lost, a process is a stranger's", change: token, processes: [STRANGER] },
  {
    what: "all is lost, and the operator vouches for that process",
    change: token,
    processes: [STRANGER],
    said: { pid: "41" },
  },
  { what: "refused: he vouches for one that is not there", processes: [MANAGER], said: { pid: "99" } },
  { what: "ca.key is lost, and memory has it", on: WELL, change: gone("pki/ca.key"), processes: [MANAGER] },
  { what: "sa.key is lost, sa.pub proves it", on: WELL, change: gone("pki/sa.key"), processes: [MANAGER] },
  {
    what: "the internal CAs are lost",
    on: WELL,
    change: gone("pki/etcd/ca.key", "pki/front-proxy-ca.key"),
    processes: [MANAGER],
  },
  {
    what: "another key is in the place of a lost one",
    on: WELL,
    change: put({ "pki/ca.key": pki("etcd/ca.key") }),
    processes: [MANAGER],
  },
  {
    what: "the same, and it is moved aside",
    on: WELL,
    change: put({ "pki/ca.key": pki("etcd/ca.key") }),
    processes: [MANAGER],
    moveToRescue: true,
  },
  {
    what: "another CA is in the place of the cluster's",
    on: WELL,
    change: put({ "pki/ca.crt": later.cert, "pki/ca.key": later.key }),
    processes: [MANAGER],
  },
  {
    what: "the same, and it is moved aside: another CA",
    on: WELL,
    change: put({ "pki/ca.crt": later.cert, "pki/ca.key": later.key }),
    processes: [MANAGER],
    moveToRescue: true,
  },
  {
    what: "another CA is moved aside, and nothing is found",
    on: WELL,
    change: put({ "pki/ca.crt": later.cert, "pki/ca.key": later.key }),
    moveToRescue: true,
  },
  {
    what: "the CA has expired",
    on: { ...WELL, etcd: (objects) => Object.assign(objects, clusterObjects(expired.cert)) },
    change: put({ "pki/ca.crt": expired.cert }),
  },
  {
    what: "the operator's copies of all",
    change: async (node) => {
      copies(...ALL)(node);
      token(node);
    },
    said: { backup: "/srv/copies" },
  },
  {
    what: "the operator's copies of one key, and of a file",
    change: async (node) => {
      copies("ca.key", "ca.crt")(node);
      policy(node);
      mkdirSync(`${node.root}/srv/copies/audit`);
      write(`${node.root}/srv/copies/audit/policy.yaml`, "kind: Policy\n");
    },
    said: { backup: "/srv/copies" },
  },
  {
    what: "copies of another cluster's",
    change: ({ root }) => {
      write(`${root}/srv/copies/ca.key`, later.key);
      write(`${root}/srv/copies/ca.crt`, later.cert);
    },
    said: { backup: "/srv/copies" },
  },
  { what: "refused: a folder that is not there", said: { backup: "/srv/none" } },
  { what: "refused: a worker", on: { kind: "worker" } },
  {
    what: "the data cannot be read",
    on: {
      etcd: (objects) => {
        for (const key of Object.keys(objects))
          if (!key.startsWith("minions")) objects[key] = "k8s:enc:aescbc:v1:key1:\u0001\u0002";
      },
    },
    processes: [MANAGER],
  },
  {
    what: "the key is in a Secret of its own",
    on: {
      etcd: (objects) => {
        objects["secrets/backup/pki"] = {
          apiVersion: "v1",
          kind: "Secret",
          metadata: { name: "pki", namespace: "backup" },
          data: Object.fromEntries(
            ["tls.crt", "tls.key"].map((name, i) => [name, btoa(pki(i === 0 ? "ca.crt" : "ca.key"))]),
          ),
        };
      },
    },
  },
  {
    what: "etcd is external, and memory has the keys",
    change: async (node) => {
      rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
      write(`${node.root}${CONF}/pki/ca.crt`, pki("ca.crt"));
      write(
        `${node.root}${CONF}/manifests/kube-apiserver.yaml`,
        "spec: {containers: [{command: [--etcd-servers=https://127.0.0.31:2379]}]}",
      );
      token(node);
    },
    processes: [MANAGER],
  },
];

const holds = decisions("salvage");

test.each(ROWS)("$what", async (row) => {
  const change = async (node: Node) => {
    mkdirSync(`${node.root}/dev/shm`, { recursive: true });
    await row.change?.(node);
    for (const process of row.processes ?? []) pretendProcess(node.root, process);
  };
  const decided = await lookAt({ ...row.on, change }, async ({ root }, said) => {
    const before = filesOf(root);
    const found: object[] = [];
    const refused = await failOf(async () => void found.push(await salvaged(row)));
    const written = filesOf(root).filter((file) => !before.includes(file));
    const tells = said
      .filter((line) => /^(still lost|expired|if they)/.test(line))
      .map((line) => line.split("\n").at(-1));
    return {
      ...found[0],
      ...(refused && { refused: refused.message, code: refused.exitCode }),
      written: written.map(settled),
      tells,
    };
  });
  holds(row.what, decided);
});

test("where no key is lost, and etcd's data can be read since the look, the next command comes at once", async () => {
  await lookAt({ kind: "healthy control plane node" }, async (_, said) => {
    const how = {
      others: false,
      kid: undefined,
      from: undefined,
      pid: undefined,
      backup: undefined,
    } as const;
    const job = await lookForLost(undefined, how);
    const before = { ...job, here: { ...job.here, cluster: undefined } } as never;
    const from = said.length;
    const next = nextAfterSalvage(before, { notFound: [], moveToRescue: false, question: undefined });
    expect([typeof next, said.slice(from)]).toEqual(["string", []]);
  });
});

/** As the steps of scripts/00-salvage.ts, without the disk. */
async function salvaged({ said, moveToRescue }: Row) {
  const job = await lookForLost(undefined, {
    others: moveToRescue,
    kid: undefined,
    from: undefined,
    pid: undefined,
    backup: undefined,
    ...said,
  });
  const { foundKeys, here, processes } = job;
  const lost = foundKeys.missing().map(({ name }) => name);
  await searchMemory(foundKeys, { data: here.data, processes });
  await searchSecrets(foundKeys, here.data);
  const question = putBack(job, { moveToRescue });
  const next = nextAfterSalvage(job, { notFound: ["memory"], moveToRescue: moveToRescue === true, question });
  return {
    lost,
    processes: [processes.own.length, processes.others.length].join(" and "),
    oldKey: job.oldKey,
    etcd: job.etcd,
    next,
  };
}

/** Each file below /etc and /root, with its mode and size. */
function filesOf(root: string): string[] {
  const all = ["etc", "root"].flatMap((folder) =>
    (readdirSync(`${root}/${folder}`, { recursive: true, encoding: "utf8" }) as string[]).map((name) =>
      join("/", folder, name),
    ),
  );
  const files = all.filter((path) => statSync(root + path, { throwIfNoEntry: false })?.isFile());
  return files
    .map(
      (path) =>
        `${path} ${(statSync(root + path).mode & 0o777).toString(8)} ${isOurs(root, path) ? "as before" : "new"}`,
    )
    .sort();
}

function isOurs(root: string, path: string): boolean {
  const before = statSync(healthy + path, { throwIfNoEntry: false });
  return before !== undefined && readFileSync(root + path).equals(readFileSync(healthy + path));
}

function settled(file: string): string {
  return file.replace(/-\d{8}T\d{6}/, "-TIME").replace(/-[0-9a-f]{8}(?=\.(key|crt))/, "-HASH");
}
