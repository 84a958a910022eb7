/** What the API server calls: which pods serve it, and what is said where a webhook does not answer. */
import { expect, test } from "bun:test";
import { asDeafWebhook, pastWebhooks } from "../../../shared/api/called-by-api.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { RunningPod } from "../../../shared/facts/pod-trust.ts";
import { Fail, failOf } from "../../../shared/fail.ts";
import { refuseDeafWebhook, servingPods } from "../../../shared/workloads/webhooks.ts";
import { type ApiOptions, NO_TLS, pretendApi, status } from "../../pretend/api.ts";

const HOOKS = "/apis/admissionregistration.k8s.io/v1";
const at = (name: string, namespace = "hooks") => ({ clientConfig: { service: { namespace, name } } });
const OBJECTS = {
  [`${HOOKS}/validatingwebhookconfigurations/checks`]: {
    webhooks: [
      { name: "outside.example", clientConfig: { url: "https://outside.example" } },
      { name: "checks.example", ...at("checks") },
    ],
  },
  [`${HOOKS}/mutatingwebhookconfigurations/empty`]: {},
  "/apis/apiregistration.k8s.io/v1/apiservices/v1.apps": { spec: {} },
  "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics": {
    spec: { service: { namespace: "hooks", name: "metrics" } },
  },
  [`${HOOKS}/mutatingwebhookconfigurations/all`]: {
    webhooks: [
      { name: "all.example", ...at("all") },
      { name: "gone.example", ...at("gone") },
    ],
  },
  "/api/v1/namespaces/hooks/services/checks": { spec: { selector: { app: "checks", tier: "a" } } },
  "/api/v1/namespaces/hooks/services/metrics": { spec: { selector: { app: "metrics" } } },
  "/api/v1/namespaces/hooks/services/all": { spec: {} },
};

const pod = (uid: string, labels: Record<string, string>, namespace = "hooks"): RunningPod => ({
  metadata: { name: uid, uid, namespace, labels },
  spec: {},
});
const PODS = [
  pod("checks", { app: "checks", tier: "a", more: "x" }),
  pod("half", { app: "checks" }),
  pod("metrics", { app: "metrics" }),
  pod("elsewhere", { app: "checks", tier: "a" }, "other"),
];

async function withApi<T>(
  action: (api: KubeApi) => Promise<T>,
  on?: ApiOptions["on"],
  objects = OBJECTS,
): Promise<T> {
  using server = pretendApi({ objects, ...(on ? { on } : {}) });
  return await action(new KubeApi({ server: server.url, ca: NO_TLS }));
}

test("pods that serve are those that a Service selects, in its namespace; one without a selector selects none", async () => {
  const { webhooks, apis } = await withApi((api) => servingPods(api, PODS));
  expect([[...webhooks], [...apis]]).toEqual([["checks"], ["metrics"]]);
});

test("a Service's name that is a path leads nowhere else", async () => {
  const asked: string[] = [];
  const objects = {
    [`${HOOKS}/validatingwebhookconfigurations/odd`]: {
      webhooks: [
        { name: "a.example", ...at("../../../../apis/apps/v1/deployments") },
        { name: "b.example", ...at("x?watch=1", "a/secrets") },
      ],
    },
  };
  await withApi(
    (api) => servingPods(api, PODS),
    ({ path }) => void asked.push(path),
    objects as never,
  );
  expect(asked.filter((path) => path.startsWith("/api/v1/"))).toEqual([
    "/api/v1/namespaces/hooks/services/..%2F..%2F..%2F..%2Fapis%2Fapps%2Fv1%2Fdeployments",
    "/api/v1/namespaces/a%2Fsecrets/services/x%3Fwatch%3D1",
  ]);
  expect(asked).toHaveLength(5);
});

const refusing =
  (webhook: string): ApiOptions["on"] =>
  ({ method }) =>
    method === "POST"
      ? status(500, `Internal error occurred: failed calling webhook "${webhook}": connection refused`)
      : undefined;
const GET = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations";

test.each<[string, ApiOptions["on"], string | undefined, string]>([
  ["nothing stands in its way", () => undefined, undefined, ""],
  [
    "the pod itself is refused",
    ({ method }) => (method === "POST" ? status(403, "quota") : undefined),
    undefined,
    "",
  ],
  [
    "a webhook of a Service does not answer",
    refusing("checks.example"),
    'the API refuses it, because the webhook "checks.example" does not answer',
    `its pods serve hooks/checks: kubectl -n hooks get pods. If they do not come back, it is your decision to continue unchecked: kubectl patch --type=json --patch '[{"op":"replace","path":"/webhooks/1/failurePolicy","value":"Ignore"}]' validatingwebhookconfiguration checks, this script again, then the same with "Fail"`,
  ],
  [
    "one outside of the cluster does not answer",
    refusing("outside.example"),
    'the API refuses it, because the webhook "outside.example" does not answer',
    `If they do not come back, it is your decision to continue unchecked: kubectl patch --type=json --patch '[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]' validatingwebhookconfiguration checks, this script again, then the same with "Fail"`,
  ],
  [
    "nobody knows it",
    refusing("unknown.example"),
    'the API refuses it, because the webhook "unknown.example" does not answer',
    GET,
  ],
  [
    "its configuration may not be read",
    (request, api) =>
      request.path.startsWith(HOOKS) ? status(403, "no") : refusing("checks.example")!(request, api),
    'the API refuses it, because the webhook "checks.example" does not answer',
    GET,
  ],
])("a pod is asked for without being made; %s", async (_, on, message, hint) => {
  const refused = await withApi((api) => failOf(() => refuseDeafWebhook(api, PODS[0]!)), on);
  expect([refused?.message, refused?.hint]).toEqual([message, message && hint] as never);
});

test("an error of another kind is not a webhook's", async () => {
  const bug = new TypeError("a bug");
  await withApi(async (api) => {
    expect(await asDeafWebhook(api, bug)).toBeUndefined();
    const passed = pastWebhooks(api, () => Promise.reject(bug));
    await expect(passed).rejects.toBe(bug);
    expect(await pastWebhooks(api, async () => 7)).toBe(7);
    const deaf = await failOf(() => pastWebhooks(api, () => api.create("/api/v1/namespaces/hooks/pods", {})));
    expect(deaf).toBeInstanceOf(Fail);
    expect(deaf!.message).toContain('"all.example" does not answer');
  }, refusing("all.example"));
});
