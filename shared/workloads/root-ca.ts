/**
 * Where pods get the CA from: kube-root-ca.crt, the ConfigMap in each namespace, which the controller-manager
 * writes (rootcacertpublisher).
 *
 * And ClusterTrustBundles: CAs by the name of their signer, which pods mount as files (certificates.k8s.io;
 * v1 and on by default in 1.37). For the API server the controller-manager publishes one, with the content of
 * its --root-ca-file, and removes others of this signer
 * (pkg/controller/certificates/clustertrustbundlepublisher). PodCertificates need none of this: in 1.37 no
 * signer of Kubernetes' own issues any (kube-apiserver-client-pod "is currently unimplemented"), so the
 * cluster's CA signs none.
 */
import { ApiError, DeafWebhook, pastWebhooks, refusalOfOne, unlessRefused } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { isApiServers, type KubeObject, nameOf } from "../api/kube-object.ts";
import { DOES_IT_LEAD } from "../api/leases.ts";
import { readAll } from "../api/many.ts";
import { type CutOff, NOT_YET, type TrustHolder } from "../facts/pod-trust.ts";
import { Fail } from "../fail.ts";
import { trustsCa } from "../pki/certificate.ts";
import { FEW, listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { scaledTimeout, waitFor } from "../wait-for.ts";
import { caBeside, TOKEN_SECRETS } from "./token-secrets.ts";

const NAME = "kube-root-ca.crt";

const ROOT_CA_MAPS = `/api/v1/configmaps?fieldSelector=metadata.name%3D${NAME}`;

/**
 * When each pod's trust became the current one, by kube-root-ca.crt of its namespace and by the token Secrets that it
 * mounts. `map` and `secret` judge an object by its text of the CA: NOT_YET for one that is old. Errors: as KubeApi.
 */
export async function trustReached(
  api: KubeApi,
  { map, secret }: Record<"map" | "secret", (holder: TrustHolder, ca: string) => Date>,
): Promise<CutOff> {
  const [maps, secrets] = [new Map<string, Date>(), new Map<string, Date>()];
  await readAll("ConfigMaps with the CA", api.items<TrustHolder>(ROOT_CA_MAPS), (one) =>
    maps.set(one.metadata.namespace ?? "", map(one, one.data?.["ca.crt"] ?? "")),
  );
  await readAll("token Secrets", api.items<TrustHolder>(TOKEN_SECRETS), (one) =>
    secrets.set(nameOf(one), secret(one, caBeside(one))),
  );
  return { rootCa: (namespace) => maps.get(namespace) ?? NOT_YET, token: (name) => secrets.get(name) };
}

type Has = (text: string | undefined, caPem: string) => boolean;

/**
 * Namespaces whose kube-root-ca.crt does not have the current CA; it may have others beside it. `has`: unless another
 * certificate of its key is as good.
 */
export async function namespacesWithOldCa(
  api: KubeApi,
  caPem: string,
  has: Has = trustsCa,
): Promise<string[]> {
  const old = new Set<string>();
  const all = api.items<KubeObject & { status?: { phase?: string } }>("/api/v1/namespaces");
  for await (const { metadata, status } of all) if (status?.phase === "Active") old.add(metadata.name);
  for await (const { metadata, data } of api.items<TrustHolder>(ROOT_CA_MAPS))
    if (has(data?.["ca.crt"], caPem)) old.delete(metadata.namespace ?? "");
  return [...old];
}

/** Milliseconds. */
const ASK_EVERY = 5000;

/** After so many seconds in which no other namespace has got it, those that are left do not get it. */
const STILL_SECONDS = 60;

/**
 * A namespace of the system, whose ConfigMap no tenant writes: without it the controller-manager gives nobody
 * the CA.
 */
const SYSTEM = "kube-system";

/** Namespace → why its pods would not start with the current CA. */
export type NamespacesWithoutCa = ReadonlyMap<string, Fail>;

/**
 * A pod that starts after that has the current CA at once; one that runs already, within a minute. The
 * controller-manager in full writes 20 of them a second (--kube-api-qps): thousands take minutes. Namespaces for
 * which the API refuses it are named, and not waited for: nobody knows when a webhook answers again, and
 * whoever may write ConfigMaps in a namespace can make this one immutable, or write it back again and again:
 * in such a one nothing should restart, and these are returned.
 */
export async function waitForRootCa(
  api: KubeApi,
  caPem: string,
  has: Has = trustsCa,
): Promise<NamespacesWithoutCa> {
  let [old, asked, bundles]: [string[], number, string[]] = [[], 0, []];
  let [fewest, moved] = [Number.POSITIVE_INFINITY, Date.now()];
  const outcome = async (): Promise<Outcome | undefined> => {
    old = await namespacesWithOldCa(api, caPem, has);
    bundles = (await apiServerBundles(api, caPem)).old;
    const left = old.length + bundles.length;
    const moves = left < fewest;
    if (moves) [fewest, moved] = [left, Date.now()];
    if (bundles.length > 0) return undefined;
    const isLate = Date.now() > moved + scaledTimeout(STILL_SECONDS * 1000);
    const isStill = !moves && isLate && !old.includes(SYSTEM);
    if (old.length > 0 && !isStill && Date.now() < asked + ASK_EVERY) return undefined;
    asked = Date.now();
    const why = await whyOld(api, old, caPem);
    return isStill || why.kept.length === 0 ? why : undefined;
  };
  const what = () => {
    const missing = [...old, ...bundles.map((name) => `ClusterTrustBundle ${name}`)];
    return `the controller-manager to give every namespace the current CA${missing.length > 0 ? ` (missing: ${listed(missing)})` : ""}`;
  };
  const { refused, kept } = (await waitFor(what, outcome, {
    seconds: 120,
    progress: () => fewest,
    easing: true,
    hint: () => {
      const more = shell`If it no longer publishes bundles: kubectl delete clustertrustbundle ${bundles}`;
      return bundles.length > 0 ? `${DOES_IT_LEAD}. ${more}` : DOES_IT_LEAD;
    },
  })) ?? { refused: [], kept: [] };
  if (!mode.dryRun) sayGiven(old, refused, kept);
  const keptFrom = (namespace: string) =>
    new Fail(`${NAME} of ${namespace} still has no current CA, although the API refused no write`, {
      hint: shell`see who writes it: kubectl -n ${namespace} get configmap ${NAME} -o yaml --show-managed-fields`,
    });
  return new Map(kept.map((namespace) => [namespace, keptFrom(namespace)]));
}

interface Outcome {
  refused: Fail[];
  kept: string[];
}

function sayGiven(old: readonly string[], refused: readonly Fail[], kept: readonly string[]) {
  if (old.length === 0) return say(`${NAME}: the current CA in every namespace`);
  const those = old.filter((namespace) => !kept.includes(namespace));
  const why: string[] = [];
  if (those.length > 0) why.push(`${listed(those)}: there the API refuses it`);
  if (kept.length > 0) why.push(`${listed(kept)}: there it does not come, though the API refuses nothing`);
  say(`${NAME}: the current CA in every namespace but ${why.join("; ")}. Continuing without them`);
  for (const [message, { hint }] of new Map(refused.map((one) => [one.message, one])))
    say(`${message}: ${hint}`);
}

/** Why these namespaces have the old CA: what holds for the first few holds for all. */
async function whyOld(api: KubeApi, namespaces: readonly string[], caPem: string): Promise<Outcome> {
  const few = namespaces.slice(0, FEW);
  const answers = await Promise.all(few.map((namespace) => refusalIn(api, namespace, caPem)));
  const refused = answers.flatMap((one) => one ?? []);
  const kept = few.filter((_, i) => !answers[i]);
  return { refused, kept: kept.length === 0 ? [] : [...kept, ...namespaces.slice(FEW)] };
}

async function refusalIn(api: KubeApi, namespace: string, caPem: string): Promise<Fail | undefined> {
  try {
    await publishRootCa(api, namespace, { caPem, dryRun: true });
  } catch (err) {
    if (err instanceof DeafWebhook) return err;
    const why = refusalOfOne(err);
    if (why)
      return new Fail(`in ${namespace} the API says: ${why.message}`, {
        hint: shell`delete it, if it is immutable (see first who made it so): the controller-manager makes a new one. kubectl --kubeconfig /etc/kubernetes/admin.conf -n ${namespace} delete configmap ${NAME}`,
      });
  }
  return undefined;
}

/**
 * Writes what the controller-manager would; it waits for longer and longer after each refusal. Errors: Fail,
 * DeafWebhook.
 */
export async function publishRootCa(
  api: KubeApi,
  namespace: string,
  { caPem, dryRun = mode.dryRun }: { caPem: string; dryRun?: boolean },
) {
  const maps = `/api/v1/namespaces/${namespace}/configmaps`;
  const query = dryRun ? "?dryRun=All" : "";
  const data = { "ca.crt": caPem };
  await pastWebhooks(api, async () => {
    try {
      await api.patch(`${maps}/${NAME}${query}`, { data });
    } catch (err) {
      if (!(err instanceof ApiError && err.status === 404)) throw err;
      const metadata = { name: NAME, namespace };
      await api.create(`${maps}${query}`, { apiVersion: "v1", kind: "ConfigMap", metadata, data });
    }
  });
}

interface TrustBundle extends KubeObject {
  spec: { signerName?: string; trustBundle: string };
}

/** Returns an empty list if the API servers do not know this kind. */
export async function trustBundles(api: KubeApi): Promise<TrustBundle[]> {
  for (const version of ["v1", "v1beta1", "v1alpha1"]) {
    const path = `/apis/certificates.k8s.io/${version}/clustertrustbundles`;
    const found = await unlessRefused([404], () => api.list<TrustBundle>(path));
    if (found) return found;
  }
  return [];
}

export async function apiServerBundles(
  api: KubeApi,
  caPem: string,
): Promise<{ all: TrustBundle[]; old: string[] }> {
  const all = (await trustBundles(api)).filter(({ spec }) => isApiServers({ signerName: spec.signerName }));
  const old = all.filter(({ spec }) => !trustsCa(spec.trustBundle, caPem));
  return { all, old: old.map(({ metadata }) => metadata.name) };
}
