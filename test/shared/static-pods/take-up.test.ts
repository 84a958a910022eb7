/** Another manifest for a static pod, beside a kubelet that begins with the one in place later. */
import { expect, spyOn, test } from "bun:test";
import { rmSync } from "node:fs";
import { exists, readText, writeFile } from "../../../shared/files/files.ts";
import { manifestText } from "../../../shared/manifests/on-disk.ts";
import { exchangeManifest } from "../../../shared/static-pods/take-up.ts";
import { manifest } from "../../pretend/cluster.ts";
import { NODE } from "../../pretend/control-plane-node.ts";
import { CRICTL, crictlPs, staticUid } from "../../pretend/node.ts";
import { programsHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const NAME = "kube-scheduler";
const PATH = `/etc/kubernetes/manifests/${NAME}.yaml`;
const POD = `/var/lib/kubelet/pods/${staticUid(NAME)}`;
const NEXT = manifestText(manifest("kube-controller-manager"));

/**
 * Exchanges the manifest; the runtime shows these containers, at one question after the other. Returns what is so
 * when the old manifest is away: the questions until then, and the time. The old pod's folder goes then.
 */
async function exchanged(root: string, shown: readonly string[][], patience: string) {
  using fake = programsHere(
    shown.map((names) => ({ command: `${CRICTL} ps -a -o json`, stdout: crictlPs(names) })),
    { KUBE_PKI_REPAIR_PATIENCE: patience },
  );
  const away = { questions: 0, at: 0 };
  const when = async () => {
    expect([exists(PATH), exists(POD)]).toEqual([false, true]);
    Object.assign(away, { questions: fake.calls().length, at: Date.now() });
    rmSync(root + POD, { recursive: true });
  };
  const next = { manifest: manifest("kube-controller-manager"), note: "another one", when };
  await exchangeManifest({ node: NODE }, NAME, next);
  return away;
}

function inPlace() {
  const box = sandbox();
  writeFile(PATH, manifestText(manifest(NAME)));
  writeFile(`${POD}/etc-hosts`, "");
  return box;
}

test("a kubelet that has just started begins with the manifest in place before that goes: it would start neither", async () => {
  using box = inPlace();
  const { questions } = await exchanged(box.dir, [[], ["kube-proxy"], ["kube-proxy", NAME]], "1");
  expect(questions).toBe(3);
  expect(readText(PATH)).toBe(NEXT);
});

test("a pod that never runs holds nothing up", async () => {
  using box = inPlace();
  expect((await exchanged(box.dir, [["kube-proxy"]], "0.0005")).questions).toBeGreaterThan(1);
  expect(readText(PATH)).toBe(NEXT);
});

/** Milliseconds: the kubelet frees the name of a pod that is gone once in this time. */
const KUBELETS_TICK = 1000;

test("a pod whose folder is gone has its name until the kubelet's next tick: the new manifest comes after that", async () => {
  using box = inPlace();
  let now = Date.now();
  // this clock goes on by the looks at it alone
  using _clock = spyOn(Date, "now").mockImplementation(() => (now += 100));
  const { at } = await exchanged(box.dir, [[NAME]], "0.05");
  expect(now - at).toBeGreaterThan(KUBELETS_TICK);
  expect(readText(PATH)).toBe(NEXT);
});
