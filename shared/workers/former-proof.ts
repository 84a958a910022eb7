/**
 * `close` asks the certificates from before, which former-serving.ts has left in the Nodes, whose an address
 * is; then they go.
 */
import type { KubeApi } from "../api/kube-api.ts";
import type { KubeObject } from "../api/kube-object.ts";
import { inParallel } from "../api/many.ts";
import { attempt } from "../fail.ts";
import { infoOf, signedBy } from "../pki/certificate.ts";
import { act } from "../run.ts";
import { NODE_USER } from "./csr.ts";
import { annotateFormer, FORMER_SERVING } from "./former-serving.ts";
import { type Identities, prove } from "./identities.ts";

const NODES = "/api/v1/nodes";

/** Requests at the same time. */
const WRITES = 20;

/**
 * Lets the certificates from before say which addresses were these nodes'. `cas`: of the cluster as it was.
 */
export async function proveByFormer(
  api: KubeApi,
  names: readonly string[],
  { identities, cas }: { identities: Identities; cas: readonly string[] },
) {
  await inParallel(names, WRITES, async (name) => {
    const node = await api.find(`${NODES}/${name}`);
    const info = infoOf(node?.metadata.annotations?.[FORMER_SERVING]);
    if (info?.cn !== NODE_USER + name || !info.usages.includes("server")) return;
    if (cas.some((ca) => attempt(() => signedBy(info.pem, ca)) === true))
      prove(identities, name, [...info.sans.dns, ...info.sans.ips], info.notBefore);
  });
}

/** `close`: they have done their work. */
export async function removeFormers(api: KubeApi) {
  const left: string[] = [];
  for await (const { metadata } of api.items<KubeObject>(NODES))
    if (metadata.annotations?.[FORMER_SERVING]) left.push(metadata.name);
  if (left.length === 0) return;
  await act("remove", `annotation ${FORMER_SERVING} from Nodes (${left.length})`, () =>
    inParallel(left, WRITES, async (name) => void (await annotateFormer(api, name, null))),
  );
}
