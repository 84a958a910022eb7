/** The nodes' Bun comes by npm, and only the one that is pinned: made-up npms. */
import { expect, spyOn, test } from "bun:test";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { failOf } from "../../shared/fail.ts";
import { BUN_VERSION, NODES_BUN, nodesBun } from "../../tools/pack/write-kit.ts";
import { type FakeCommand, fakePath } from "../pretend/programs.ts";
import { sandbox } from "../pretend/sandbox.ts";

const SPEC = `${NODES_BUN.x64.name}@${BUN_VERSION}`;
const NPM = `npm pack --loglevel=error ${SPEC}`;
/** What npm 10 prints where nothing listens at the registry's address. */
const REFUSED = `npm error code ECONNREFUSED
npm error syscall connect
npm error errno ECONNREFUSED
npm error FetchError: request to REGISTRY failed, reason: connect ECONNREFUSED 127.0.0.1:9
npm error     at ClientRequest.emit (node:events:524:28)
npm error
npm error If you are behind a proxy, please make sure that the 'proxy' config is set properly.  See: 'npm help config'
npm error A complete log of this run can be found in: /root/.npm/_logs/x-debug-0.log
`;

/** Why there is none, and what is left in the cache. */
async function fetched(npm: FakeCommand[], cacheOf = (dir: string) => `${dir}/cache`) {
  using box = sandbox();
  using fake = fakePath(npm);
  const cache = cacheOf(box.dir);
  const before = { ...process.env };
  const { which } = Bun;
  const found = spyOn(Bun, "which").mockImplementation((name) => which(name, { PATH: fake.env.PATH }));
  Object.assign(process.env, { PATH: fake.env.PATH, KUBE_PKI_REPAIR_CACHE: cache });
  try {
    const refused = await failOf(() => nodesBun("x64"));
    const left = readdirSync(box.dir, { recursive: true, encoding: "utf8" }).filter((name) =>
      name.includes("tgz"),
    );
    return {
      message: refused!.message,
      hint: refused!.hint.replaceAll(box.dir, "DIR"),
      left,
      said: box.said,
    };
  } finally {
    found.mockRestore();
    process.env.PATH = before.PATH;
    if (before.KUBE_PKI_REPAIR_CACHE === undefined) delete process.env.KUBE_PKI_REPAIR_CACHE;
  }
}

test.each<[string, FakeCommand[], string, string]>([
  ["there is no npm", [], `npm, which fetches "${SPEC}", is missing here`, "install npm"],
  [
    "npm fails",
    [{ command: NPM, stderr: REFUSED, exit: 1 }],
    `npm cannot fetch "${SPEC}", exit code 1: ECONNREFUSED: FetchError: request to REGISTRY failed, reason: connect ECONNREFUSED 127.0.0.1:9`,
    `npm pack ${SPEC} says more`,
  ],
  [
    "npm says nothing",
    [{ command: NPM }],
    `npm cannot fetch "${SPEC}", exit code 0: npm says nothing`,
    "says more",
  ],
  [
    "npm names a file that is not there",
    [{ command: NPM, stdout: "a.tgz\n" }],
    `npm cannot fetch "${SPEC}", exit code 0: npm says nothing`,
    "says more",
  ],
  [
    "npm fails, and has written a file",
    [{ command: NPM, does: "echo x > a.tgz", stdout: "a.tgz\n", exit: 1 }],
    `npm cannot fetch "${SPEC}", exit code 1: npm says nothing`,
    "says more",
  ],
  [
    "npm brings something else",
    [{ command: NPM, does: "echo x > a.tgz", stdout: "a note\na.tgz\n" }],
    `npm brought another file as "${SPEC}" than the pinned one, by its sha512`,
    "npm config get registry",
  ],
])("%s: it is said, and nothing of it is kept", async (_, npm, message, hint) => {
  const end = await fetched(npm);
  expect(end.message).toBe(message);
  expect(end.hint).toContain(hint);
  expect(end.left).toEqual([]);
  expect(end.said).toEqual([expect.stringContaining(`fetching ${NODES_BUN.x64.name} ${BUN_VERSION} by npm`)]);
});

test("where the cache cannot be written another one may be named", async () => {
  const end = await fetched([], (dir) => {
    mkdirSync(`${dir}/a`);
    writeFileSync(`${dir}/a/file`, "");
    return `${dir}/a/file`;
  });
  expect(end.hint).toContain("KUBE_PKI_REPAIR_CACHE=FOLDER npm run pack");
  expect(end.said).toEqual([]);
});
