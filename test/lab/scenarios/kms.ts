/**
 * A KMS v2 plugin has encrypted the Secrets, and all of /etc/kubernetes is deleted: with the plugin's
 * manifest and the encryption configuration. The API server is not ready before the plugin serves its socket.
 */
import { kms, SEALED_BY_PLUGIN } from "../machine/kms.ts";
import { drilled } from "../scene/drilled.ts";
import { followRunbook } from "../scene/follow.ts";
import { byHand, byRepair } from "../scene/follow-repair.ts";
import { operatorsFiles } from "../scene/operators-files.ts";
import { reasonIn, type Scenario, type Scene, type } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS } from "./all-lost.ts";

type Line = Scenario["lines"][number];

const files = operatorsFiles(kms);
const drill = drilled();

const follow = (parts: number[], title: string): Line =>
  byHand({
    title: `The operator follows RUNBOOK.md, ${title}`,
    run: (scene) => followRunbook(scene, TAGS, { parts }),
  });

/** In etcd's files; a Secret of before the plugin would be there, too, in plain text. */
const secretsAreSealed: Line = {
  title: "The Secrets are in etcd as the plugin has encrypted them",
  async run(scene) {
    const { lab } = scene;
    const look = `grep -rao '${SEALED_BY_PLUGIN}' ${lab.profile.etcdDataDir}/member | wc -l`;
    const { stdout } = await lab.controlPlanes[0]!.run(["sh", "-c", look]);
    scene.checks.push({
      name: "the plugin encrypts Secrets",
      ok: Number(stdout) > 0,
      detail: `${stdout.trim()} values in etcd's files`,
    });
  },
};

const saidBefore: Line = {
  title:
    "The scripts name the plugin's manifest as one that comes back, and part 1 the lost files before it touches anything",
  async run(scene) {
    const [first] = scene.lab.controlPlanes;
    const assessed = await type(scene, first!, "./bunw scripts/00-assess.ts --json", { exit: [2], part: 0 });
    const { checks } = JSON.parse(assessed.stdout) as { checks: { what: string; detail: string }[] };
    const detail = checks.find(({ what }) => what.endsWith("manifests/kms-plugin.yaml"))?.detail ?? "";
    scene.checks.push({
      name: "00-assess says that the plugin's manifest comes back",
      ok: detail.includes("can be rebuilt from its mirror pod"),
      detail,
    });
    // 3: the old API server may not have ended yet, and part 1 does not end what would not start again
    const part1 = await type(scene, first!, "./bunw scripts/01-etcd.ts --new-cas --dry-run", {
      exit: [0, 3],
      part: 1,
    });
    const named = /^.*only a copy brings it back: .*encryption\.yaml.*$/m.exec(part1.stderr)?.[0];
    scene.checks.push({
      name: "part 1 names the lost encryption configuration",
      ok: named !== undefined,
      detail: named?.trim() ?? reasonIn(part1),
    });
  },
};

/** With the files back, nothing but what serves it makes a socket: nobody is sent for a copy of one. */
const noCopyOfSocket: Line = {
  title: "The socket is no file that somebody can bring back",
  async run(scene: Scene) {
    const { stdout } = await type(scene, scene.lab.controlPlanes[0]!, "./bunw scripts/00-assess.ts", {
      exit: [2],
      part: 0,
    });
    const sent = /^.*(socket\.sock.*cannot be rebuilt|start what serves).*$/m.exec(stdout)?.[0];
    scene.checks.push({
      name: "nobody is sent for a copy of the plugin's socket",
      ok: sent === undefined,
      detail: sent?.trim() ?? "",
    });
  },
};

const FILES_BACK = [files.named, saidBefore, files.putBack, noCopyOfSocket];

export const kmsAllLost: Scenario = {
  ...allLost,
  name: "kms",
  title:
    "A KMS plugin, which is a static pod, has encrypted the Secrets; /etc/kubernetes is deleted on every node, with the plugin's manifest",
  profile: kms,
  lines: [
    secretsAreSealed,
    files.keep,
    drill.before,
    ...everythingDeleted,
    follow([0], "part 0"),
    ...FILES_BACK.map(byHand),
    follow([1, 2, 3, 4, 5], "parts 1 to 5"),
    byRepair(FILES_BACK),
    files.asBefore,
    drill.outcome,
  ],
};
