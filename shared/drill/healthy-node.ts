/** A drill compares with what is here: on a damaged node that is the wrong measure. */
import { command } from "../again.ts";
import { adminClient } from "../api/admin-api.ts";
import { caIsNew } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { lostHere } from "../facts/lost-files.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { isReduced } from "../manifests/repair-changes.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import { pkiFindings, wholePki, withAdminElsewhere } from "../pki/examine.ts";
import { listed } from "../plain.ts";

/** Errors: Refused with what is wrong here. Asks the API server one question. */
export async function refuseDamaged(cp: ControlPlaneNode) {
  const wrong = [...troubles(cp)];
  if (wrong.length === 0) wrong.push(...(await silence(cp)));
  if (wrong.length === 0) return;
  throw new Refused(`A drill needs a node that is well, and this one is not: ${listed(wrong)}`, {
    hint: `${command("00-assess")} says what is damaged here, and what repairs it`,
  });
}

function* troubles(cp: ControlPlaneNode): Generator<string> {
  const { facts, node, data } = cp;
  const findings = withAdminElsewhere(pkiFindings(wholePki(facts), facts), facts);
  for (const { paths, state, detail } of findings)
    if (state !== "ok") yield `${paths[0]}: ${state} (${detail})`;
  for (const name of CONTROL_PLANE) {
    const path = manifestPath(cp, name);
    const manifest = attempt(() => readManifest(path));
    if (manifest instanceof Fail) yield manifest.message;
    else if (!manifest) yield `${path}: missing`;
    else if (isReduced(manifest)) yield `${name} is reduced: a repair is in progress`;
  }
  for (const { path, namedBy } of lostHere({
    data,
    node,
    etcd: cp.etcd,
    ran: cp.ran,
    certificatesDir: facts.certificatesDir,
  }))
    yield `${path}: missing (${namedBy})`;
  if (findings[0]?.state === "ok" && caIsNew(cp))
    yield "its CA is not the one that etcd's data names: a repair is in progress";
}

async function silence({ facts }: ControlPlaneNode): Promise<string[]> {
  try {
    const api = await adminClient(facts);
    return (await api.ready()) ? [] : [`${api.server} is not ready`];
  } catch (err) {
    if (err instanceof Fail) return [err.message];
    throw err;
  }
}
