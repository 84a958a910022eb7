import { join } from "node:path";
import { countValid } from "../report/verdict.ts";
import { followRunbook } from "../scene/follow.ts";
import { restartBarePods } from "../scene/printed.ts";
import type { Scenario, Scene } from "../scene/scene.ts";
import { allLost, incident, TAGS } from "./all-lost.ts";

/** The same loss, but the old key of tokens is computed first: tokens from before are accepted until part 4 is done. */
export const oldTokens: Scenario = {
  ...allLost,
  name: "old-tokens",
  title: "rm -rf /etc/kubernetes on every node; then RUNBOOK.md, with the old sa.pub computed from old tokens",
  lines: [
    ...incident,
    { title: "Follow RUNBOOK.md up to part 4", run: (scene) => follow(scene, ({ beforePart4 }) => beforePart4) },
    { title: "Show old tokens to the API", run: (scene) => checkTokens(scene, "accepted", scene.oldTokens.length) },
    { title: "Follow part 4 up to 4.8", run: (scene) => follow(scene, ({ part4 }) => part4) },
    { title: "Restart the bare pods, as 4.7 says", run: restartBarePods },
    { title: "Follow the rest", run: (scene) => follow(scene, ({ rest }) => rest) },
    { title: "Show old tokens to the API again", run: (scene) => checkTokens(scene, "refused", 0) },
  ],
};

interface Pages {
  beforePart4: string;
  part4: string;
  rest: string;
}

/** A part of the page. */
async function follow(scene: Scene, choose: (pages: Pages) => string) {
  const page = await Bun.file(join(import.meta.dir, "../../../RUNBOOK.md")).text();
  const [part4, retire] = [page.indexOf("\n## 4 "), page.indexOf("\n### 4.8 ")];
  const pages = { beforePart4: page.slice(0, part4), part4: page.slice(part4, retire), rest: page.slice(retire) };
  await followRunbook(scene, [...TAGS, "old-tokens"], { markdown: choose(pages) });
}

async function checkTokens(scene: Scene, what: string, expected: number) {
  const valid = await countValid(scene.lab, scene.oldTokens);
  const detail = `${valid} of ${scene.oldTokens.length} are valid`;
  scene.checks.push({ name: `tokens from before the wreck are ${what}`, ok: valid === expected && scene.oldTokens.length > 0, detail });
}
