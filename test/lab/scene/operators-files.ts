/**
 * The files of a cluster that kubeadm did not make and nobody can rebuild: the operator's copies of them, and
 * the rules of the API.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { LAB_BUN } from "../machine/disk.ts";
import { kubectl, type Machine } from "../machine/machine.ts";
import type { Profile } from "../machine/profile.ts";
import { changedFiles, filesOf } from "../report/footprint.ts";
import { LOOSE_FILES } from "./given-up.ts";
import { nodesOn } from "./power.ts";
import { reasonIn, type Scenario, type Scene, type } from "./scene.ts";

type Line = Scenario["lines"][number];
type Kept = { node: Machine; path: string; text: string; mode: number };

/** The lines of a scenario that share the operator's copies; `profile` says which files there are. */
export function operatorsFiles(profileOf: () => Profile) {
  let kept: Kept[] = [];
  let bindings = "";
  const lines = {
    keep: {
      title: "The operator keeps copies of the files that only he has",
      async run(scene) {
        const profile = profileOf();
        kept = scene.lab.nodes.flatMap((node) =>
          pathsOn(scene, node, profile).map((path) => ({ node, path, ...readIn(node, path) })),
        );
        bindings = await bindingsOf(scene);
      },
    },
    named: {
      title: "00-assess names every file that nobody can rebuild",
      run: (scene) => namedByAssess(scene, kept),
    },
    refusedWithout: {
      title: "Part 1 names them all, and changes nothing",
      run: (scene) => refusedWithout(scene, kept),
    },
    putBack: {
      title:
        "The operator brings these files back: on control plane nodes with 00-salvage, on workers by hand",
      run: (scene) => putBack(scene, kept),
    },
    putBackOnWorkers: {
      title: "The operator brings these files back on workers, by hand",
      run: (scene) => putBack(scene, kept, scene.lab.workers),
    },
    putBackWhatOpens: {
      title: "The operator has only what opens etcd's data, and the files without a flag of the API server",
      run: (scene) =>
        putBack(
          scene,
          kept.filter(({ path }) => !LOOSE_FILES.some((file) => file.path === path)),
        ),
    },
    rulesAsBefore: {
      title: "The operator looks at the rules of the API",
      run: async (scene) => scene.checks.push(await rulesAsBefore(scene, bindings)),
    },
    asBefore: {
      title: "The operator looks at his files, and at the rules of the API",
      async run(scene) {
        const changed = kept.filter(
          ({ node, path, text, mode }) =>
            JSON.stringify(readIn(node, path)) !== JSON.stringify({ text, mode }),
        );
        const names = changed.map(({ node, path }) => `${node.name}: ${path}`);
        scene.checks.push({
          name: "the operator's files are as before",
          ok: names.length === 0,
          detail: names.join(", ") || `${kept.length} files`,
        });
        scene.checks.push(await rulesAsBefore(scene, bindings));
        if (!profileOf().anonymousDiscovery) scene.checks.push(await strangersAreRefused(scene));
      },
    },
  } satisfies Record<string, Line>;
  const textOf = (path: string) => kept.find((file) => file.path === path)?.text;
  return Object.assign(lines, { textOf, folder: () => copiesOf(kept) });
}

function pathsOn(
  { lab }: Scene,
  node: Machine,
  { nodeFiles, controlPlaneFiles, workerStaticPods }: Profile,
): string[] {
  const onWorkers = Object.keys(workerStaticPods).map((file) => `/etc/kubernetes/manifests/${file}`);
  return [
    ...Object.keys(nodeFiles),
    ...(lab.controlPlanes.includes(node) ? Object.keys(controlPlaneFiles) : onWorkers),
  ];
}

/** What is missing has no text. */
function readIn(node: Machine, path: string): { text: string; mode: number } {
  const info = statSync(node.path(path), { throwIfNoEntry: false });
  return info
    ? { text: readFileSync(node.path(path), "utf8"), mode: info.mode & 0o777 }
    : { text: "", mode: 0 };
}

/** Each file by its own name, or by its folder's. */
function unnamed(files: readonly Kept[], said: string): string[] {
  return files
    .filter(({ path }) => !said.includes(path) && !said.includes(dirname(path)))
    .map(({ path }) => path);
}

async function namedByAssess(scene: Scene, kept: readonly Kept[]) {
  const forgotten: string[] = [];
  for (const node of nodesOn(scene)) {
    const { stdout, stderr } = await type(scene, node, "./bunw scripts/00-assess.ts", { exit: [0, 2] });
    const own = kept.filter((file) => file.node === node && !existsSync(node.path(file.path)));
    forgotten.push(...unnamed(own, stdout + stderr).map((path) => `${node.name}: ${path}`));
  }
  scene.checks.push({
    name: "00-assess names every lost file that nobody can rebuild",
    ok: forgotten.length === 0,
    detail: forgotten.join(", ") || "all",
  });
}

async function refusedWithout(scene: Scene, kept: readonly Kept[]) {
  const first = scene.lab.controlPlanes[0]!;
  const before = await stateOf(first);
  // 1: what else is lost stands beside data that cannot be read without the encryption configuration
  const step = await type(scene, first, "./bunw scripts/01-etcd.ts --new-cas", { exit: [1, 3], part: 1 });
  const changed = changedFiles(before, await stateOf(first));
  const missing = unnamed(
    kept.filter(({ node, path }) => node === first && !existsSync(first.path(path))),
    step.stderr,
  );
  scene.checks.push({
    name: "part 1 names them all at once",
    ok: step.ok && missing.length === 0,
    detail: missing.join(", ") || reasonIn(step),
  });
  scene.checks.push({
    name: "part 1 refuses before it touches anything",
    ok: step.ok && changed.length === 0,
    detail: changed.join(", ") || "nothing changed",
  });
}

/**
 * Where the operator lays his copies for 00-salvage: in memory, as the runbook has it for all that is
 * carried.
 */
const COPIES = "/run/operators-copies";

/** Those that are lost. */
async function putBack(scene: Scene, kept: readonly Kept[], nodes = nodesOn(scene)) {
  for (const node of nodes) {
    const isControlPlane = scene.lab.controlPlanes.includes(node);
    const lost = kept.filter((file) => file.node === node && !existsSync(node.path(file.path)));
    for (const { path, text, mode } of lost) {
      const place = isControlPlane ? COPIES + path : path;
      const line = `umask 077; mkdir -p ${dirname(place)}; cat > ${place}; chmod ${mode.toString(8)} ${place}`;
      await node.run(["sh", "-c", line], { input: text });
    }
    // 2: ca.key and sa.key are still lost
    if (isControlPlane && lost.length > 0)
      await type(scene, node, `./bunw scripts/00-salvage.ts files --backup ${COPIES}`, {
        exit: [0, 2],
        part: 0,
      });
  }
}

/** The files of the first control plane node as a backup has them: a folder that holds /etc/kubernetes. */
function copiesOf(kept: readonly Kept[]): string {
  const folder = mkdtempSync(join(process.env.TMPDIR ?? "/tmp", "operators-"));
  for (const { path, text, mode } of kept.filter(({ node }) => node.name === "cp1")) {
    mkdirSync(dirname(folder + path), { recursive: true });
    writeFileSync(folder + path, text, { mode });
  }
  return folder;
}

/** Files, containers, the kubelet, and whether there is a rescue folder. */
async function stateOf(node: Machine): Promise<Map<string, string>> {
  const look = ["crictl ps -a -q | sort", "systemctl is-active kubelet", "ls /root /var/lib/kubelet"];
  const seen = await Promise.all(
    look.map(async (line): Promise<[string, string]> => [line, (await node.run(["sh", "-c", line])).stdout]),
  );
  return new Map([...filesOf(node), ...seen]);
}

async function bindingsOf({ lab }: Scene): Promise<string> {
  return (
    await kubectl(lab, ["get", "clusterroles,clusterrolebindings,roles,rolebindings", "-A", "-o", "name"])
  ).stdout;
}

async function rulesAsBefore(scene: Scene, before: string) {
  const [was, is] = [before, await bindingsOf(scene)].map((text) => text.split("\n").filter(Boolean)) as [
    string[],
    string[],
  ];
  const changed = [
    ...is.filter((name) => !was.includes(name)).map((name) => `+${name}`),
    ...was.filter((name) => !is.includes(name)).map((name) => `-${name}`),
  ];
  return {
    name: "no rule of the API was added or taken away",
    ok: was.length > 0 && changed.length === 0,
    detail: changed.join(", ") || `${is.length} rules`,
  };
}

async function strangersAreRefused({ lab }: Scene) {
  const paths = ["/api/v1/namespaces/kube-public/configmaps/cluster-info", "/api", "/readyz"];
  const ask = `for (const path of ${JSON.stringify(paths)}) {
    const { status } = await fetch("https://127.0.0.1:6443" + path, { tls: { rejectUnauthorized: false } });
    console.log(path, status);
  }`;
  const { stdout, stderr } = await lab.controlPlanes[0]!.run([LAB_BUN, "-e", ask]);
  const detail = stdout.trim().replaceAll("\n", ", ") || stderr.trim();
  const ok = detail === paths.map((path, i) => `${path} ${i < 2 ? 401 : 200}`).join(", ");
  return { name: "without credentials the API answers at its health paths only", ok, detail };
}
