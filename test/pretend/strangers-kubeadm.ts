/**
 * A colleague's kubeadm on one control plane node, without --config and with the API away: it knows only its defaults,
 * and so reads and writes kubeadm's usual folder. What is there and valid stays, what is missing is made.
 */
import { existsSync, globSync, readFileSync, statSync, utimesSync } from "node:fs";
import { CERTS, type ClusterFacts } from "../../shared/pki/certs.ts";
import { ensureMany } from "../../shared/pki/ensure.ts";
import { issueClient } from "../../shared/pki/issue.ts";
import {
  type KubeconfigRow,
  kubeconfigRows,
  kubeconfigText,
  withUser,
} from "../../shared/pki/kubeconfigs.ts";
import { FACTS, write } from "./cluster.ts";
import { onNode } from "./no-node.ts";
import { quietly } from "./quietly.ts";
import { USUAL } from "./strangers-folder.ts";

type Place = { root: string };

const DEFAULTS: ClusterFacts = { ...FACTS, certificatesDir: USUAL };
const ALL = kubeconfigRows(DEFAULTS, { superAdmin: true });
/** What `certs renew all` renews. */
const ROWS = ALL.filter(({ name }) => name !== "kubelet");

const COMMANDS = {
  "init phase certs all": ({ root }: Place) =>
    onNode(root, () =>
      quietly(() =>
        ensureMany({ certs: CERTS, serviceAccountKey: true }, DEFAULTS, {
          asideDir: "/unused",
          newCas: "all",
        }),
      ),
    ),
  // it does not overwrite: one with another CA stops it, which a person mends with mv
  "init phase kubeconfig all": async ({ root }: Place) => {
    for (const row of ALL.filter(({ path }) => !existsSync(root + path)))
      write(
        root + row.path,
        kubeconfigText(row, DEFAULTS, { ca: caOf(root), user: await userOf(row, root) }),
      );
  },
  // the CA in the file is replaced, too (kubeadm's app/phases/certs/renewal/readwriter.go)
  "certs renew all": async ({ root }: Place) => {
    for (const row of ROWS.filter(({ path }) => existsSync(root + path))) {
      const text = readFileSync(root + row.path, "utf8");
      write(root + row.path, withUser(text, { ca: caOf(root), user: await userOf(row, root) })!);
    }
  },
} as const;

export type StrangersCommand = keyof typeof COMMANDS;

/** It was typed an hour ago: what is written now is a run's of this kit. */
export async function strangersKubeadm(command: StrangersCommand, place: Place) {
  const began = Date.now();
  await COMMANDS[command](place);
  const ago = (began - 3_600_000) / 1000;
  for (const file of globSync(`${place.root}/etc/kubernetes/**/*`))
    if (statSync(file).mtimeMs >= began - 5) utimesSync(file, ago, ago);
}

function caOf(root: string): string {
  return readFileSync(`${root}${USUAL}/ca.crt`, "utf8");
}

function userOf({ cn, o }: KubeconfigRow, root: string) {
  const ca = { cert: caOf(root), key: readFileSync(`${root}${USUAL}/ca.key`, "utf8") };
  const group = o?.(99);
  const user = typeof cn === "function" ? cn(DEFAULTS) : cn;
  return issueClient({ cn: user, ...(group !== undefined && { o: group }) }, ca, DEFAULTS);
}
