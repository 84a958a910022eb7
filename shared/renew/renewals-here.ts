/** What `renew-ca` looks at on a control plane node before it changes anything. Reads only. */
import type { KubeApi } from "../api/kube-api.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Refused } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { clientText } from "../node/kubelet-config.ts";
import { certPath, certRow } from "../pki/certs.ts";
import { examine, pkiFindings, wholePki } from "../pki/examine.ts";
import { day } from "../pki/judge.ts";
import { wayBack } from "./place.ts";
import { casInUse } from "./publish.ts";
import { type CaName, type Candidate, type Renewal, renewalOf } from "./renewal.ts";

/** Whether one of these CAs has expired on this node's disk: no server of it is trusted any more. */
export function haveExpired({ facts }: Pick<ControlPlaneNode, "facts">, names: readonly CaName[]): boolean {
  return names.some((name) => examine(certRow(name), facts).state === "expired");
}

/** Errors: Refused where a certificate or kubeconfig here is not sound: that is repaired first. */
export function refuseUnsound({ facts }: Pick<ControlPlaneNode, "facts">) {
  const all = pkiFindings(wholePki(facts), facts);
  const isAway = ({ row, state }: (typeof all)[number]) =>
    state === "missing" ||
    (state === "key missing" && row !== undefined && "file" in row && row.ca === undefined);
  const broken = all.filter((one) => one.state !== "ok" && !isAway(one));
  if (broken.length === 0) return;
  const names = broken.map(({ paths, state }) => `"${paths[0]}" (${state})`).join(", ");
  throw new Refused(`Not all files here are valid: ${names}`, {
    unchanged: true,
    hint: "repair that first: ./bunw scripts/00-assess.ts",
  });
}

interface Wanted {
  only: readonly CaName[];
  from?: string | undefined;
  undo?: boolean | undefined;
}

/** Of each CA that is on this node. Without `api`, nothing says what the cluster has in use. Errors: as `renewalOf`. */
export async function renewalsHere(
  { facts, node }: Pick<ControlPlaneNode, "facts" | "node">,
  api: KubeApi | undefined,
  { only, from, undo }: Wanted,
): Promise<Renewal[]> {
  const pathOf = (name: CaName) => certPath(certRow(name), facts.certificatesDir);
  const here = only.filter((name) => exists(pathOf(name)));
  if (undo) return here.map((name) => wayBack(name, pathOf(name)));
  const seen: Partial<Record<CaName, Candidate[]>> = api ? await casInUse(api) : {};
  const leaves = [clientText(node.kubelet)].filter(Boolean);
  return here.map((name) =>
    renewalOf(name, facts, {
      seen: seen[name] ?? [],
      brought: from === undefined ? undefined : broughtFor(name, from),
      leaves,
    }),
  );
}

/** For the operator. */
export function inWords({ now, next, note }: Renewal): string {
  return now.pem === next.pem
    ? note
    : `until ${day(now.notAfter)}; then until ${day(next.notAfter)} (${note})`;
}

/** The operator's file for this CA; undefined where the folder has none. */
export function broughtFor(name: CaName, folder: string): Candidate | undefined {
  const file = `${folder}/${certRow(name).file}.crt`;
  const pem = readText(file);
  return pem === undefined ? undefined : { pem, from: file };
}
