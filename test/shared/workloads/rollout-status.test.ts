/** How far a rollout is, whether it may begin, and why its pods do not come. */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { RunningPod } from "../../../shared/facts/pod-trust.ts";
import { failOf } from "../../../shared/fail.ts";
import type { PodOwner } from "../../../shared/workloads/pod-owners.ts";
import {
  howToLookAt,
  podsOf,
  refuseHeld,
  rolloutState,
  type Workload,
  whyNot,
  whyNotReady,
} from "../../../shared/workloads/rollout-status.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";

const SEEN = { observedGeneration: 2 };
const DONE = { ...SEEN, replicas: 3, updatedReplicas: 3, availableReplicas: 3 };
const SET = { ...SEEN, desiredNumberScheduled: 3, currentNumberScheduled: 3 };
const OUT = { ...SET, updatedNumberScheduled: 3, numberAvailable: 3 };
const LATE = { type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded" };

const workload = (status: object, spec: object = { replicas: 3 }) =>
  ({ metadata: { name: "web", namespace: "shop", generation: 2 }, spec, status }) as unknown as Workload;

type State = { [field in keyof ReturnType<typeof rolloutState>]?: unknown };
type Kind = PodOwner["controller"];

test.each<[string, Kind, object, State & { waiting?: number }]>([
  [
    "nobody has seen the change",
    "Deployment",
    { ...DONE, observedGeneration: 1 },
    { done: false, far: 0, wanted: 3, words: "no controller has seen the change yet" },
  ],
  [
    "nobody has seen anything",
    "Deployment",
    {},
    { done: false, far: 0, words: "no controller has seen the change yet" },
  ],
  [
    "all are new",
    "Deployment",
    DONE,
    { done: true, far: 6, wanted: 3, words: "3 of 3 pods are new, 3 available", onlyWaits: false },
  ],
  ["a later change was seen, too", "Deployment", { ...DONE, observedGeneration: 3 }, { done: true }],
  [
    "one is old",
    "Deployment",
    { ...DONE, updatedReplicas: 2 },
    { done: false, far: 5, words: "2 of 3 pods are new, 3 available" },
  ],
  [
    "one is not available",
    "Deployment",
    { ...DONE, availableReplicas: 2 },
    { done: false, words: "3 of 3 pods are new, 2 available" },
  ],
  [
    "that one waits for a node that is away",
    "Deployment",
    { ...DONE, availableReplicas: 2 },
    { waiting: 1, done: true, onlyWaits: true },
  ],
  [
    "two, of which one waits",
    "Deployment",
    { ...DONE, availableReplicas: 1 },
    { waiting: 1, done: false, onlyWaits: false },
  ],
  [
    "an old one still ends",
    "Deployment",
    { ...DONE, replicas: 4 },
    { done: false, words: "3 of 3 pods are new, 3 available, 1 old still end" },
  ],
  [
    "its time is over",
    "Deployment",
    { ...DONE, updatedReplicas: 2, conditions: [LATE] },
    { done: false, late: true },
  ],
  [
    "another condition",
    "Deployment",
    { ...DONE, conditions: [{ ...LATE, reason: "NewReplicaSetAvailable" }] },
    { late: undefined },
  ],
  [
    "another type of condition",
    "Deployment",
    { ...DONE, conditions: [{ ...LATE, type: "Available" }] },
    { late: undefined },
  ],
  ["a StatefulSet has no such time", "StatefulSet", { ...DONE, conditions: [LATE] }, { late: undefined }],
  [
    "a StatefulSet of one revision",
    "StatefulSet",
    { ...DONE, updateRevision: "a", currentRevision: "a", updatedReplicas: 0 },
    { done: true },
  ],
  [
    "a StatefulSet between two",
    "StatefulSet",
    { ...DONE, updateRevision: "b", currentRevision: "a" },
    { done: false },
  ],
  [
    "a DaemonSet is out",
    "DaemonSet",
    OUT,
    { done: true, wanted: 3, far: 6, words: "3 of 3 pods are new, 3 available" },
  ],
  ["a DaemonSet with an old pod", "DaemonSet", { ...OUT, updatedNumberScheduled: 2 }, { done: false }],
  ["a DaemonSet's pod is not available", "DaemonSet", { ...OUT, numberAvailable: 2 }, { done: false }],
  [
    "and its node is away",
    "DaemonSet",
    { ...OUT, numberAvailable: 2 },
    { waiting: 1, done: true, onlyWaits: true },
  ],
  [
    "a DaemonSet's counters of another kind say nothing",
    "DaemonSet",
    { ...OUT, replicas: 9, updatedReplicas: 1 },
    { done: true, words: "3 of 3 pods are new, 3 available" },
  ],
  ["a DaemonSet without counters", "DaemonSet", SEEN, { done: true, wanted: 0, far: 0 }],
])("a rollout: %s", (_, kind, status, { waiting, ...state }) => {
  expect({ late: undefined, ...rolloutState(workload(status), kind, waiting) }).toMatchObject(state);
});

test("without a number of replicas there is one", () => {
  expect(
    rolloutState(
      workload({ ...SEEN, replicas: 1, updatedReplicas: 1, availableReplicas: 1 }, {}),
      "Deployment",
    ),
  ).toMatchObject({ done: true, wanted: 1 });
});

const pod = (name: string, status: object = {}, metadata: object = {}) =>
  ({
    metadata: { name, namespace: "shop", ...metadata },
    spec: { nodeName: "w1" },
    status,
  }) as unknown as RunningPod;
const owner = (controller: Kind, more: object = {}): PodOwner =>
  ({
    ...{ restart: "rollout", controller, namespace: "shop", name: "web", path: "/x", since: new Date() },
    ...{ pods: [pod("web-1"), pod("web-2")] },
    ...more,
  }) as PodOwner;

const ON_DELETE = { updateStrategy: { type: "OnDelete" } };

test.each<[string, Kind, object, object, string[]]>([
  ["nothing is held", "Deployment", { replicas: 3 }, DONE, []],
  [
    "it is held by a pause",
    "Deployment",
    { paused: true },
    DONE,
    ["it is paused", "rollout resume deployment/web"],
  ],
  ["OnDelete, and nothing waits", "StatefulSet", ON_DELETE, DONE, []],
  [
    "OnDelete, and a change waits",
    "StatefulSet",
    ON_DELETE,
    { ...DONE, updatedReplicas: 2 },
    ["its updateStrategy is OnDelete", "delete pod web-1 web-2"],
  ],
  ["OnDelete, no counters", "StatefulSet", ON_DELETE, {}, []],
  ["OnDelete of a DaemonSet", "DaemonSet", ON_DELETE, OUT, []],
  [
    "OnDelete of a DaemonSet, and a change waits",
    "DaemonSet",
    ON_DELETE,
    { ...OUT, updatedNumberScheduled: 0 },
    ["its updateStrategy is OnDelete"],
  ],
  ["a rolling update, and pods are old", "DaemonSet", { updateStrategy: { type: "RollingUpdate" } }, SET, []],
])("before a restart: %s", async (_, kind, spec, status, [message, hint = ""]) => {
  const refused = await failOf(() => refuseHeld(workload(status, spec), owner(kind)));
  if (message === undefined) expect(refused).toBeUndefined();
  else {
    expect(refused!.message).toStartWith(message);
    expect(refused!.hint).toContain(hint);
  }
});

test("where to look: at the rollout, or at the pods", () => {
  expect(howToLookAt(owner("Deployment"))).toStartWith("kubectl -n shop rollout status deployment/web; ");
  expect(howToLookAt(owner("Deployment", { restart: "evict" }))).toStartWith(
    "kubectl -n shop get pods -o wide; ",
  );
  expect([owner("Deployment"), owner("Deployment", { pods: [pod("a")] })].map(podsOf)).toEqual([
    "2 pods of shop/web (Deployment)",
    "1 pod of shop/web (Deployment)",
  ]);
});

const waiting = (reason: string, message?: string) => ({
  containerStatuses: [{ state: { waiting: { reason, message } } }],
});
const unscheduled = (status: string) => ({
  conditions: [{ type: "PodScheduled", status, reason: "Unschedulable", message: "no room" }],
});

test.each<[string, RunningPod, string | undefined]>([
  ["nothing", pod("a"), undefined],
  ["it failed", pod("a", { phase: "Failed" }), "it failed"],
  [
    "it failed, and why",
    pod("a", { phase: "Failed", reason: "Evicted", message: "no room" }),
    "Evicted: no room",
  ],
  [
    "it does not end",
    pod("a", {}, { deletionTimestamp: "2026-01-01T00:00:00Z" }),
    "the old pod does not terminate: see whether node w1 is Ready",
  ],
  [
    "its image cannot be pulled",
    pod("a", waiting("ErrImagePull", "no such host")),
    "ErrImagePull: no such host",
  ],
  ["it crashes", pod("a", waiting("CrashLoopBackOff")), "CrashLoopBackOff"],
  ["it is made", pod("a", waiting("ContainerCreating")), undefined],
  ["it begins", pod("a", waiting("PodInitializing", "soon")), undefined],
  ["no node takes it", pod("a", unscheduled("False")), "Unschedulable: no room"],
  ["a node has taken it", pod("a", unscheduled("True")), undefined],
  ["a container runs", pod("a", { containerStatuses: [{ state: {} }, {}] }), undefined],
])("what a pod says itself: %s", (_, one, why) => {
  expect(whyNotReady(one)).toBe(why as never);
});

const READY = { conditions: [{ type: "Ready", status: "True" }] };
const event = (of: string, type: string, message: string, more: object = {}) => ({
  involvedObject: { name: of },
  type,
  message,
  ...more,
});
const REFUSED = (status: string) => ({
  conditions: [{ type: "ReplicaFailure", status, message: "quota is over" }],
});

interface World {
  pods?: RunningPod[];
  events?: Record<string, object[]>;
}

test.each<[string, object, World, string]>([
  ["nothing is known", {}, {}, ""],
  ["the API refuses its pods", REFUSED("True"), {}, "quota is over"],
  ["it refused them once", REFUSED("False"), {}, ""],
  [
    "a pod that is Ready is not asked",
    {},
    { pods: [pod("web-1", READY)], events: { "web-1": [event("web-1", "Warning", "old")] } },
    "",
  ],
  [
    "a pod says it",
    {},
    { pods: [pod("web-1", READY), pod("web-2", waiting("ErrImagePull"))] },
    "web-2: ErrImagePull",
  ],
  [
    "its last warning says it",
    {},
    {
      pods: [pod("web-2")],
      events: {
        "web-2": [
          event("web-2", "Warning", "newer", { lastTimestamp: "2026-01-02T00:00:00Z" }),
          event("web-2", "Warning", "older", { lastTimestamp: "2026-01-01T00:00:00Z" }),
          event("web-2", "Normal", "Scheduled", { lastTimestamp: "2026-01-03T00:00:00Z" }),
        ],
      },
    },
    "web-2: newer",
  ],
  [
    "the controller's event says it",
    {},
    { events: { web: [event("web", "Warning", "no service account", { reason: "FailedCreate" })] } },
    "no service account",
  ],
  [
    "another event of the controller does not",
    {},
    { events: { web: [event("web", "Warning", "scaled", { reason: "Scaled" })] } },
    "",
  ],
])("why no new pod comes: %s", async (_, status, { pods = [], events = {} }, why) => {
  using server = pretendApi({
    on: ({ path }) => {
      const name = /fieldSelector=involvedObject.name%3D([\w-]+)/.exec(path)?.[1];
      const metadata = { name: "e" };
      if (name)
        return Response.json({
          metadata: {},
          items: (events[name] ?? []).map((one) => ({ metadata, ...one })),
        });
      return path.includes("/pods?") ? Response.json({ metadata: {}, items: pods }) : undefined;
    },
  });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const of = workload({ ...SEEN, ...status }, { selector: { matchLabels: { app: "web" } } });
  expect(await whyNot(api, owner("Deployment"), of)).toBe(why);
});
