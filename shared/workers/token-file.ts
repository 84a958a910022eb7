/**
 * Files and objects that a worker and the first control plane node leave for each other.
 *
 * The files that the operator copies to the workers: to each its own bootstrap token, and under it the CA in
 * PEM, so that no server is asked for it. `open` writes `token.d/NODE/token`; on the worker it is `token`, so
 * that one line is right for all of them. It also has the address of the API server that runs where `open` was: the
 * cluster's endpoint may be a balancer that a worker's own kubelet starts.
 *
 * A kubelet's old serving certificate: it says which addresses were that node's, as the cluster's CA signed it. A
 * kubelet that asks for a new one has none to show: its port refuses every handshake, and the key of a request is in
 * its memory alone. So `join` leaves the certificate in the Node, as an annotation, and `close` asks for it if
 * several nodes claim one address. It does not matter who writes it there: it is signed, and names its node.
 */

import { basename, dirname } from "node:path";
import type { KubeApi } from "../api/kube-api.ts";
import { Fail, failOf } from "../fail.ts";
import { exists, list, readText, removeFile } from "../files/files.ts";
import type { Node } from "../node/node.ts";
import { typed } from "../options.ts";
import { certificatesIn, trustedKeys } from "../pki/certificate.ts";
import { act, say } from "../run.ts";
import { shell } from "../shell-line.ts";

/** `file`: as typed. */
export function tokenPlace(file: string, node: string): string {
  return `${file}.d/${node}/${basename(file)}`;
}

/** The unit, where `open` was, that approves what the holders of these tokens ask for. */
export const APPROVER = "kube-pki-repair-approve";
export const APPROVER_LOG = `journalctl -u ${APPROVER} -n 50`;

interface TokenNotes {
  /** Undefined if any worker may take it. */
  owner: string | undefined;
  /** `https://HOST:PORT` of the API server where `open` was; a file of an earlier kit has none. */
  at: string | undefined;
  /** Names of this worker's own static pods, such as a balancer: only etcd's data may still know them. */
  pods: readonly string[];
}

export interface TokenFile extends TokenNotes {
  token: string;
  /** Each of its certificates has one of the fingerprints that were asked for. */
  ca: string;
}

export function tokenText({ token, owner, at, pods, ca }: TokenFile): string {
  const own = pods.length > 0 ? [`# pods ${pods.join(" ")}`] : [];
  return [token, ...(owner ? [`# ${owner}`] : []), `# at ${at}`, ...own, ca].join("\n");
}

/** Empty if there is no such file. */
export function tokenNotes(file: string): TokenNotes {
  return notesIn((file && readText(typed(file))) || "");
}

function notesIn(text: string): TokenNotes {
  const [, second = ""] = text.split("\n");
  const [, names = ""] = /^# pods ([a-z0-9. -]+)$/m.exec(text) ?? [];
  return {
    owner: /^# (\S+)$/.exec(second.trim())?.[1],
    at: /^# at (https:\S+)$/m.exec(text)?.[1],
    pods: names.split(" ").filter(Boolean),
  };
}

/** Errors: Fail if there is none, if it is another node's, or from another `open`. */
export function readTokenFile(file: string, hashes: readonly string[], name: string): TokenFile {
  const text = readText(typed(file));
  const hint = shell`copy it from the first control plane node, into this folder: scp FIRST_NODE:$PWD/${tokenPlace(file, name)} .`;
  if (text === undefined) throw new Fail(`There is no token file "${file}"`, { hint });
  const [token = ""] = text.split("\n").map((line) => line.trim());
  if (!/^[a-z0-9]{6}\.[a-z0-9]{16}$/.test(token))
    throw new Fail(`"${file}" holds no bootstrap token`, { hint });
  const notes = notesIn(text);
  const { owner = name } = notes;
  if (owner !== name)
    throw new Fail(`"${file}" holds the token of "${owner}", and this node is "${name}"`, {
      unchanged: true,
      hint,
    });
  const keys = trustedKeys(text);
  if (keys.symmetricDifference(new Set(hashes)).size === 0)
    return { ...notes, token, ca: certificatesIn(text).join("") };
  throw new Fail(
    `The CA in "${file}" has the fingerprint "${[...keys].join(",")}", not "${hashes.join(",")}"`,
    {
      unchanged: true,
      hint: "take the file and the join line from the newest run of ./bunw scripts/03-workers.ts open: these are from two different ones. If they still differ, somebody has changed the file on its way",
    },
  );
}

export function dropTokenFile(file: string) {
  if (exists(typed(file))) removeFile(typed(file));
}

export const FORMER_SERVING = "kube-pki-repair/serving-certificate-before";

/**
 * Leaves it in this worker's Node, by its kubelet's own right: the newest that was saved before the join. Without it
 * the join is as good: `close` may have to ask a person.
 */
export async function leaveFormer(node: Node, self: KubeApi, rescueDir: string) {
  const folder = `${rescueDir}/before${dirname(node.kubelet.serverPem)}`;
  const name = list(folder).findLast((one) => /^kubelet-server-\d.*\.pem$/.test(one));
  const pem = name && certificatesIn(readText(`${folder}/${name}`) ?? "")[0];
  if (!pem) return;
  const what = "the old serving certificate in this worker's Node";
  const why = await failOf(() =>
    act("save", `${what}: close compares the new request with it`, () =>
      annotateFormer(self, node.name, pem),
    ),
  );
  if (why) say(`warning: could not save ${what}: ${why.message}`);
}

/** `null`: it goes. */
export function annotateFormer(api: KubeApi, name: string, pem: string | null) {
  return api.patch(`/api/v1/nodes/${name}`, { metadata: { annotations: { [FORMER_SERVING]: pem } } });
}
