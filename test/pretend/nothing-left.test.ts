/** What a test leaves in the temporary folder goes with its process: thousands of folders were in /tmp. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

setDefaultTimeout(300_000);

const HOME = join(import.meta.dir, "../..");
const LEAVES = `
import { test } from "bun:test";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
test("leaves", () => console.log(\`left \${mkdtempSync(\`\${tmpdir()}/fake-\`)}\`));
`;

test("a test that makes a folder in the temporary folder leaves none there when its process has ended", async () => {
  const folder = mkdtempSync(join(tmpdir(), "left-"));
  const temporary = join(folder, "tmp");
  mkdirSync(temporary);
  writeFileSync(join(folder, "leaves.test.ts"), LEAVES);
  const { BUN_TEST_WORKER_ID: _, JEST_WORKER_ID: __, ...own } = process.env;
  const child = Bun.spawn([process.execPath, "test", join(folder, "leaves.test.ts")], {
    ...{ cwd: HOME, stdout: "pipe", stderr: "pipe", env: { ...own, TMPDIR: temporary } },
  });
  const said = await new Response(child.stdout).text();
  expect([await child.exited, readdirSync(temporary)]).toEqual([0, []]);
  expect(said).toContain(`left ${temporary}/`);
});
