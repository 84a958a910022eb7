/** Today's CA in every namespace: what one namespace's users can do about theirs holds up nobody else. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { failOf } from "../../../shared/fail.ts";
import { waitForRootCa } from "../../../shared/workloads/root-ca.ts";
import { NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { healthyCp, otherCa } from "../../pretend/cluster.ts";
import { variablesHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

const [TODAY, BEFORE] = [(await healthyCp()).ca.cert, (await otherCa()).cert];
const path = (namespace: string) => `/api/v1/namespaces/${namespace}/configmaps/kube-root-ca.crt`;
const active = { status: { phase: "Active" } };
const map = (ca: string, more = {}) => ({ ...more, data: { "ca.crt": ca } });

/** Their kube-root-ca.crt has the old CA, and the API answers so whoever wants to write it. */
function cluster(namespaces: readonly string[], answer: () => Response) {
  return pretendApi({
    objects: {
      "/api/v1/namespaces/shop": active,
      [path("shop")]: map(TODAY),
      ...Object.fromEntries(
        namespaces.flatMap((name) => [
          [`/api/v1/namespaces/${name}`, active] as const,
          [path(name), map(BEFORE)] as const,
        ]),
      ),
    },
    on: (asked) =>
      namespaces.some((name) => asked.path.startsWith(path(name))) && asked.method !== "GET"
        ? answer()
        : undefined,
  });
}

const IMMUTABLE =
  'ConfigMap "kube-root-ca.crt" is invalid: data: Forbidden: field is immutable when `immutable` is set';

test.each([
  ["that somebody has made immutable", 422, IMMUTABLE],
  ["that a policy keeps", 403, "admission denied it"],
])(
  "a kube-root-ca.crt %s is named, with the way on, and holds up no other namespace",
  async (_, code, message) => {
    using api = cluster(["a-team"], () => status(code, message));
    using box = sandbox();
    await waitForRootCa(new KubeApi({ server: api.url, ca: NO_TLS }), TODAY);
    expect(box.said).toEqual([
      "kube-root-ca.crt: the current CA in every namespace but a-team: there the API refuses it. Continuing without them",
      expect.stringMatching(
        /^in a-team the API says: .*kubectl --kubeconfig \/etc\/kubernetes\/admin.conf -n a-team delete configmap kube-root-ca.crt$/,
      ),
    ]);
    expect(box.said[1]).toContain(message);
    expect(api.changes()).toEqual([]);
  },
);

/** The second question would be the last. */
const IMPATIENT = { KUBE_PKI_REPAIR_PATIENCE: "0" };

test("without the CA in the system's namespace nothing goes on: the namespaces and the bundle that lack it are named", async () => {
  using api = cluster(["a-team", "kube-system"], () => Response.json({}));
  const signerName = "kubernetes.io/kube-apiserver-serving";
  const spec = { signerName, trustBundle: BEFORE };
  api.objects.set(`/apis/certificates.k8s.io/v1/clustertrustbundles/old`, {
    metadata: { name: "old" },
    spec,
  });
  using _box = sandbox();
  using _ends = variablesHere(IMPATIENT);
  const waiting = failOf(() => waitForRootCa(new KubeApi({ server: api.url, ca: NO_TLS }), TODAY));
  expect((await waiting)?.message).toContain("(missing: a-team, kube-system, ClusterTrustBundle old)");
});

test("thousands of namespaces take as long as they take: while one after the other gets it, none is late", async () => {
  const namespaces = Array.from({ length: 30 }, (_, i) => `team-${i}`);
  const objects = namespaces.flatMap((name) => [
    [`/api/v1/namespaces/${name}`, active] as const,
    [path(name), map(BEFORE)] as const,
  ]);
  const late = [...namespaces];
  using api = pretendApi({
    objects: Object.fromEntries(objects),
    on({ path: asked }, { objects }) {
      const next = asked.startsWith("/api/v1/configmaps") && late.shift();
      if (next) objects.get(path(next)).data = map(TODAY).data;
      return undefined;
    },
  });
  using box = sandbox();
  using _ends = variablesHere(IMPATIENT);
  await waitForRootCa(new KubeApi({ server: api.url, ca: NO_TLS }), TODAY);
  expect(box.said).toEqual(["kube-root-ca.crt: the current CA in every namespace"]);
});
