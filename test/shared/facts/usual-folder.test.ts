/**
 * Where kubeadm looks without a configuration: its usual folder has the cluster's keys, or none. A stranger's are seen
 * in every layout, and part 1 moves them aside and links; a folder that is well stays.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, lstatSync, mkdirSync, readFileSync, readlinkSync, rmSync, symlinkSync } from "node:fs";
import { parse, stringify } from "yaml";
import { lookHere } from "../../../shared/assess/look-here.ts";
import { controlPlaneToRepair } from "../../../shared/facts/node-to-repair.ts";
import { strangeFolder } from "../../../shared/facts/usual-folder.ts";
import { linkUsualDir } from "../../../shared/static-pods/issue-and-start.ts";
import { write } from "../../pretend/cluster.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { DIR, LAYOUTS, type Layout } from "../../pretend/layouts.ts";
import { strangersFolder, strangersText, USUAL } from "../../pretend/strangers-folder.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

/** What 00-assess finds there, and what lies there after part 1 has made its links, twice: "a link to …", or names. */
async function played(layout: Layout, change: (root: string) => void) {
  return await lookAt(LAYOUTS[layout], async ({ root }, said) => {
    change(root);
    const { node, partialFacts } = await lookHere(undefined);
    const found = strangeFolder(partialFacts!, node)?.files.map((file) => file.slice(USUAL.length + 1));
    const cp = await controlPlaneToRepair(undefined);
    for (const _ of [1, 2]) await linkUsualDir(cp);
    const after = lstatSync(root + USUAL, { throwIfNoEntry: false });
    const place = after?.isSymbolicLink() ? `to ${readlinkSync(root + USUAL)}` : after && "a folder";
    const aside = `${cp.asideDir}${USUAL}`;
    const moved = lstatSync(root + aside, { throwIfNoEntry: false }) !== undefined;
    const again = strangeFolder({ ...cp, certificatesDir: DIR[layout] }, cp.node);
    return { found, place, moved, again, said: said.join("\n") };
  });
}

const SSL = DIR.kubespray;
const ALL = ["ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key"];
const OWN_ETCD = ["etcd/ca.crt", "etcd/ca.key"];

test.each<[Layout, string, string[]]>([
  ["certificatesDir elsewhere", "to ../../srv/pki", [...ALL, ...OWN_ETCD, "sa.pub", "sa.key"]],
  ["kubespray", "to ssl", [...ALL, "sa.pub", "sa.key"]],
])(
  "%s: a stranger's `init phase certs all` is moved aside, and the link is made",
  async (layout, place, files) => {
    const seen = await played(layout, (root) => strangersFolder(root));
    expect({ ...seen, found: seen.found?.toSorted() }).toMatchObject({
      ...{ found: files.toSorted(), place, moved: true, again: undefined },
      said: expect.stringMatching(
        /somebody made a new CA at \d{4}-\d\d-\d\d \d\d:\d\d UTC in \/etc\/kubernetes\/pki: not this cluster's/,
      ),
    });
  },
);

const copyOf = (dir: string) => (root: string) => {
  rmSync(root + USUAL, { recursive: true, force: true });
  cpSync(root + dir, root + USUAL, { recursive: true });
};

/** Clusters that are well, or not to be judged by this: nothing is found, and nothing moves. */
test.each<[Layout, string, (root: string) => void]>([
  ["kubeadm's default", "as it is", () => undefined],
  ["KubeKey", "as it is", () => undefined],
  ["kubespray", "its link", () => undefined],
  ["kubespray", "an old folder with copies of the same keys", copyOf(SSL)],
  [
    "kubespray",
    "a folder with the cluster's CA alone, without its key",
    (root) => {
      rmSync(root + USUAL);
      write(`${root}${USUAL}/ca.crt`, readFileSync(`${root}${SSL}/ca.crt`, "utf8"));
    },
  ],
  ["kubespray", "a stranger's keys in pki.bak", (root) => strangersFolder(root, undefined, `${USUAL}.bak`)],
  [
    "kubespray",
    "a bundle of the cluster's CA and another",
    (root) => {
      rmSync(root + USUAL);
      write(`${root}${USUAL}/ca.crt`, strangersText("ca.crt") + readFileSync(`${root}${SSL}/ca.crt`, "utf8"));
    },
  ],
  [
    "kubespray",
    "an etcd CA of others, as etcd is not kubeadm's",
    (root) => strangersFolder(root, ["etcd/ca.crt", "etcd/ca.key"]),
  ],
  [
    "kubespray",
    "a file that cannot be read as a certificate",
    (root) => {
      rmSync(root + USUAL);
      write(`${root}${USUAL}/ca.crt`, "nonsense");
      write(`${root}${USUAL}/ca.key`, "nonsense");
    },
  ],
  [
    "certificatesDir elsewhere",
    "a folder with the front proxy's CA alone, which the API server reads there",
    (root) => {
      strangersFolder(root, ["front-proxy-ca.crt", "front-proxy-ca.key"]);
      const path = `${root}/etc/kubernetes/manifests/kube-apiserver.yaml`;
      const text = readFileSync(path, "utf8");
      const pod = parse(text.replace("/srv/pki/front-proxy-ca.crt", `${USUAL}/front-proxy-ca.crt`));
      pod.spec.volumes.push({ name: "usual", hostPath: { path: USUAL, type: "Directory" } });
      pod.spec.containers[0].volumeMounts.push({ name: "usual", mountPath: USUAL });
      write(path, stringify(pod));
      rmSync(`${root}${USUAL}/front-proxy-ca.key`);
    },
  ],
  ["certificatesDir elsewhere", "an empty folder", (root) => mkdirSync(root + USUAL)],
  ["certificatesDir elsewhere", "a file of root's own", (root) => write(`${root}${USUAL}/own.crt`, "own")],
])("%s, well: %s stays", async (layout, _, change) => {
  const before = await lookAt(LAYOUTS[layout], async ({ root }) => {
    change(root);
    return kind(root);
  });
  const { found, place, moved } = await played(layout, change);
  expect({ found, moved, place }).toEqual({ found: undefined, moved: false, place: before });
});

function kind(root: string): string | undefined {
  const now = lstatSync(root + USUAL, { throwIfNoEntry: false });
  return now?.isSymbolicLink() ? `to ${readlinkSync(root + USUAL)}` : now && "a folder";
}

test("a folder with a file that a static pod reads, and that certificatesDir does not have, stays, and is named", async () => {
  const { found, moved, said } = await played("kubespray", (root) => {
    strangersFolder(root);
    write(`${root}${USUAL}/own.crt`, "own");
    const own = {
      metadata: { name: "own", namespace: "kube-system" },
      spec: {
        containers: [
          {
            ...{ name: "own", command: [`--ca=${USUAL}/own.crt`] },
            volumeMounts: [{ name: "v", mountPath: "/etc/kubernetes" }],
          },
        ],
        volumes: [{ name: "v", hostPath: { path: "/etc/kubernetes" } }],
      },
    };
    write(`${root}/etc/kubernetes/manifests/own.yaml`, JSON.stringify(own));
  });
  expect([found?.includes("ca.key"), moved]).toEqual([true, false]);
  expect(said).toContain(`unchanged ${USUAL}: "${USUAL}/own.crt" is read there`);
});

test("a link of kubeadm's usual folder to a stranger's is replaced, and the stranger's folder stays", async () => {
  const { place, found } = await played("kubespray", (root) => {
    strangersFolder(root, undefined, "/srv/other");
    rmSync(root + USUAL, { force: true });
    symlinkSync("/srv/other", root + USUAL);
  });
  expect([found?.includes("ca.key"), place]).toEqual([true, "to ssl"]);
});

test("with the cluster's own keys lost, etcd's data says that the folder is a stranger's", async () => {
  const { found, place } = await played("kubespray", (root) => {
    strangersFolder(root);
    rmSync(root + SSL, { recursive: true });
  });
  expect([found, place]).toEqual([["ca.crt", "ca.key"], "to ssl"]);
});
