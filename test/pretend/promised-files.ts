/** The first screens of parts 1 and 2: what they name, and what the part then stops and changes. */
import { expect } from "bun:test";
import { LOST_KEYS, type LostKeys, typedWithout } from "./lost-keys.ts";
import { settled } from "./node.ts";

/** Below /etc/kubernetes/pki, and no shared key: part 2 makes them again. */
const MADE_AGAIN = [
  ["apiserver.crt", "apiserver.key"],
  ["front-proxy-client.key"],
  ["../scheduler.conf", "../manifests/kube-scheduler.yaml"],
  ["../kubelet.conf"],
  ["../controller-manager.conf", "../manifests/kube-controller-manager.yaml", "../manifests/etcd.yaml"],
  ["ca.crt", "sa.pub"],
];

const STATES = [true, false].map((alive) => ({ alive }));

/** Each loss of shared keys, and each of other files; part 2 also after the part 1 that has made the keys. */
export const PROMISING: readonly LostKeys[] = [
  ...(["its controller-manager is reduced", "its API server signs with another sa.key"] as const).map(
    (also) => ({
      ...{ files: [], line: "02-control-plane", alive: true, also },
    }),
  ),
  ...LOST_KEYS.filter(({ line }) => /^0[12]-/.test(line)),
  ...MADE_AGAIN.flatMap((files) =>
    STATES.flatMap((state) => [
      { files, line: "01-etcd", ...state },
      { files, line: "02-control-plane", ...state },
      { files, line: "02-control-plane", after: "01-etcd", ...state },
    ]),
  ),
  ...LOST_KEYS.filter(({ line }) => line === "02-control-plane").map((row) => ({
    ...row,
    after: "01-etcd --new-cas",
  })),
];

/** Folders whose files a first screen names: what the rescue folder gets is not among them. */
const NAMED = /^\/(?:etc\/kubernetes|var\/lib\/kubelet)\//;

/**
 * What the first screen names, and nothing else, is stopped and changed; where there is no screen, nothing is. Returns how the run
 * ended, and what it has changed.
 */
export async function expectPromiseKept(row: LostKeys) {
  const { stderr, exitCode, files, stopped: all } = await typedWithout(row);
  const [named, stops] = [promisedIn(stderr).filter((path) => NAMED.test(path)), stopsIn(stderr)];
  // what stops later may stop: which nodes answer is not known before
  const later = stopsIn(stderr, "will stop later");
  const stopped = all.filter((name) => stops.includes(name) || !later.includes(name));
  const mayChange = later.map((name) => `/etc/kubernetes/manifests/${name}.yaml`);
  const changed = files
    .filter((path) => NAMED.test(path) && (named.includes(path) || !mayChange.includes(path)))
    .map((path) => settled(path));
  expect({ stderr, changed, stopped }).toEqual({ stderr, changed: named, stopped: stops });
  return { exitCode, changed, stopped: all };
}

/** `  will stop: kubelet, etcd; what follows from it`. */
function stopsIn(stderr: string, words = "will stop"): string[] {
  const [, names = "nothing"] =
    new RegExp(`^ {2}${words}: ([^:;\\n]+?)(?:, when .*)?$`, "m").exec(stderr.replaceAll(/; .*/g, "")) ?? [];
  return names === "nothing"
    ? []
    : names
        .split(", ")
        .map((name) => name.replace(/ \(.*/, ""))
        .sort();
}

/** `  will write in /etc/kubernetes/pki: ca.crt, ca.key`. A manifest that is held waits beside its place. */
function promisedIn(stderr: string): string[] {
  const lines = stderr.matchAll(
    /^ {2}will (write|move aside|remove|hold until part 2) in (\/[^:]+): (.+)$/gm,
  );
  const paths = [...lines].flatMap(([, verb, folder, names]) =>
    names!.split(", ").flatMap((name) => {
      const path = `${folder}/${name}`;
      return verb!.startsWith("hold") ? [path, `${folder}/.${name}`] : [path];
    }),
  );
  return paths.sort();
}
