import { join } from "node:path";
import { countValid } from "../report/verdict.ts";
import { followRunbook } from "../scene/follow.ts";
import { restartBarePods } from "../scene/printed.ts";
import type { Scenario, Scene } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS } from "./all-lost.ts";

/**
 * As all-lost, but the operator computes the old key of the tokens first: the API accepts old tokens until
 * part 4 is done.
 */
export const oldTokens: Scenario = {
  ...allLost,
  name: "old-tokens",
  title:
    "/etc/kubernetes is deleted on every node; the operator computes the old sa.pub from old tokens, and follows RUNBOOK.md",
  lines: [
    ...everythingDeleted,
    {
      title: "The operator follows RUNBOOK.md up to part 4",
      run: (scene) => follow(scene, ({ beforePart4 }) => beforePart4),
    },
    {
      title: "Old tokens are shown to the API: it accepts them",
      run: (scene) => checkTokens(scene, "accepts", scene.oldTokens.length),
    },
    { title: "The operator follows part 4 up to 4.8", run: (scene) => follow(scene, ({ part4 }) => part4) },
    { title: "The operator restarts the bare pods, as 4.7 says", run: restartBarePods },
    { title: "The operator follows the rest", run: (scene) => follow(scene, ({ rest }) => rest) },
    {
      title: "Old tokens are shown to the API: it refuses them",
      run: (scene) => checkTokens(scene, "refuses", 0),
    },
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
  const pages = {
    beforePart4: page.slice(0, part4),
    part4: page.slice(part4, retire),
    rest: page.slice(retire),
  };
  await followRunbook(scene, [...TAGS, "old-tokens"], { markdown: choose(pages) });
}

async function checkTokens(scene: Scene, what: string, expected: number) {
  const valid = await countValid(scene.lab, scene.oldTokens);
  const detail = `${valid} of ${scene.oldTokens.length} are accepted`;
  scene.checks.push({
    name: `the API ${what} the tokens from before`,
    ok: valid === expected && scene.oldTokens.length > 0,
    detail,
  });
}
