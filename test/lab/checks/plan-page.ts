#!/usr/bin/env bun
/**
 * The page of `plan FILE.html` in a real browser: ticks stay, buttons copy, phones and printers show all of
 * it, keys and screen readers reach all of it, and it asks nobody. `PICTURES=DIR` before it keeps its
 * pictures there.
 */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../../shared/run.ts";
import type { Objects } from "../../pretend/cluster.ts";
import { MEMBER, pretendNode } from "../../pretend/node.ts";
import { BROWSER_PACKAGES, type Browser, evaluate, openBrowser, resize, visit } from "../machine/browser.ts";
import { installPackages } from "../machine/packages.ts";
import { check, equal, isGreen } from "./page-checks.ts";
import { checkKeyboard, checkRoles } from "./page-hands.ts";
import { checkLooks } from "./page-looks.ts";
import { checkSeen, checkTicks } from "./page-ticks.ts";

const HOME = join(import.meta.dir, "../../..");
/** Somebody's own words, in a Node and in kubeadm's configuration. */
const EVIL =
  '</title></code><script>window.evil = 1</script><img src="http://127.0.0.1:9/x" onerror="window.evil = 1">';

async function main() {
  await installPackages(BROWSER_PACKAGES);
  using node = await pretendNode({ etcd: cluster, members: members() });
  const markdown = await printed(node, "/plan.md");
  const lines = [...markdown.matchAll(/```sh\n([\s\S]*?)\n```/g)].map(([, line]) => line!).join("\n");
  await printed(node, "/plan.html");
  const url = `file://${node.root}/plan.html`;
  await using browser = await openBrowser();
  await resize(browser, 1280);
  await visit(browser, url);
  await checkTicks(browser, url);
  await checkCopies(browser, lines);
  await checkBoxes(browser);
  for (const width of [320, 360, 768, 1280]) await checkWidth(browser, width);
  await checkLooks(browser, { page: "plan", names: Object.values(NAMES) });
  await resize(browser, 1280);
  await checkKeyboard(browser);
  await checkRoles(browser);
  await checkPrint(browser, lines);
  await checkWithoutScript(browser, url, lines);
  await checkAlone(browser, url);
  await checkSeen(browser, readFileSync(`${node.root}/plan.html`, "utf8"), `${node.root}/seen.html`);
  await checkElsewhere(browser, node);
  process.exitCode = isGreen() ? 0 : 1;
}

/** The names of the other nodes, as clouds and companies have them. */
const NAMES = {
  m2: "cp2.lab.example",
  m3: "cp3.lab.example",
  w1: "worker-1.lab.example",
  w3: "ip-10-77-0-23.eu-1.internal",
};

/** Three control plane nodes and three workers, one of which says what it likes. */
function cluster(objects: Objects) {
  const status = (ip: string) => ({ addresses: [{ type: "InternalIP", address: ip }] });
  const copy = (from: string, name: string) =>
    JSON.parse(JSON.stringify(objects[`minions/${from}`]).replaceAll(`"${from}"`, `"${name}"`));
  for (const [key, name] of Object.entries(NAMES)) {
    objects[`minions/${name}`] = copy(key.startsWith("m") ? "m1" : "w1", name);
    Object.assign(objects[`minions/${name}`]!, { status: status(addressOf(key)) });
  }
  delete objects["minions/w1"];
  Object.assign(objects["minions/w2"]!, { status: status(EVIL) });
  const key = "configmaps/kube-system/kubeadm-config";
  const map = objects[key] as { data: Record<string, string> };
  map.data.ClusterConfiguration = map.data.ClusterConfiguration!.replace(
    "clusterName: kubernetes",
    `clusterName: ${JSON.stringify(EVIL)}`,
  );
}

const addressOf = (name: string) => `10.77.0.${name.startsWith("m") ? 1 : 2}${name.at(-1)}`;

function members() {
  return [
    MEMBER,
    ...(["m2", "m3"] as const).map((key) => ({
      id: `b${key}`.padEnd(16, "1").replace("m", "0"),
      name: NAMES[key],
      peerURLs: [`https://${addressOf(key)}:2380`],
    })),
  ];
}

type PretendNode = Awaited<ReturnType<typeof pretendNode>>;

/** Their keys are lost, too: else the plan is made there. */
const LOOKED = ["--lost-on", `${NAMES.m2},${NAMES.m3}`];

/** Printed for the user with the longest lines. */
async function printed(
  node: PretendNode,
  file: string,
  { looked = LOOKED, code = 2 }: { looked?: string[]; code?: number } = {},
) {
  const env = { ...node.env, KUBE_PKI_REPAIR_ROOT: node.root, PWD: "/" };
  const script = join(HOME, "scripts/plan.ts");
  const child = Bun.spawn([process.execPath, script, file, "--user", "ubuntu", ...looked], {
    env,
    stdout: "inherit",
    stderr: "pipe",
  });
  const stderr = await new Response(child.stderr).text();
  check(`plan ${file} writes it`, (await child.exited) === code, stderr);
  return readFileSync(node.root + file, "utf8");
}

/** Where another node may still have the keys, and nobody has said yet that it has not, the page is what comes before a plan. */
async function checkElsewhere(browser: Browser, node: PretendNode) {
  rmSync(`${node.root}/run/kube-pki-repair-words.json`);
  const markdown = await printed(node, "/elsewhere.md", { looked: [], code: 3 });
  const lines = [...markdown.matchAll(/```sh\n([\s\S]*?)\n```/g)].map(([, line]) => line!).join("\n");
  await printed(node, "/elsewhere.html", { looked: [], code: 3 });
  await visit(browser, `file://${node.root}/elsewhere.html`);
  equal("what comes before the plan is the same text", await evaluate(browser, VISIBLE), lines);
  await checkBoxes(browser);
  await checkLooks(browser, { page: "elsewhere", names: Object.values(NAMES) });
}

async function checkCopies(browser: Browser, lines: string) {
  await browser.send("Browser.grantPermissions", {
    permissions: ["clipboardReadWrite", "clipboardSanitizedWrite"],
  });
  const count = await evaluate<number>(browser, 'document.querySelectorAll(".line button").length');
  const copied: string[] = [];
  for (let i = 0; i < count; i++)
    copied.push(
      await evaluate<string>(
        browser,
        `(async () => {
          const button = document.querySelectorAll(".line button")[${i}];
          button.click();
          while (button.textContent === "Copy") await new Promise(requestAnimationFrame);
          return button.textContent === "Copied" ? navigator.clipboard.readText() : button.textContent;
        })()`,
      ),
    );
  equal("each button copies its line, as the Markdown has it", copied.join("\n"), lines);
}

/** Commands outside of boxes. */
const IN_PROSE = `(() => {
  const prose = document.querySelector(".page").cloneNode(true);
  for (const one of prose.querySelectorAll("pre, code.typed")) one.remove();
  return prose.textContent.match(/.{0,40}(?:\\.\\/bunw |npm run |systemctl st|kubectl -|crictl logs).{0,20}/g) ?? [];
})()`;

async function checkBoxes(browser: Browser) {
  equal("no command stands in prose", (await evaluate<string[]>(browser, IN_PROSE)).join("; "), "");
  const bare =
    '[...document.querySelectorAll("pre code, .typed")].filter((one) => !one.closest(".line, .typed").parentElement.querySelector("button")).length';
  const toNothing = 'document.querySelector("#anew") ? 0 : document.querySelectorAll(".anew").length';
  equal("no line points to a box that is not there", await evaluate(browser, toNothing), 0);
  equal("each box has a button", await evaluate(browser, bare), 0);
}

async function checkWidth(browser: Browser, width: number) {
  await resize(browser, width, { phone: width < 600 });
  const wide = await evaluate<string>(
    browser,
    `[...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > ${width} + 0.5).map((one) => one.outerHTML.slice(0, 90)).join("; ")`,
  );
  const scrolls = await evaluate<boolean>(
    browser,
    "document.documentElement.scrollWidth > document.documentElement.clientWidth",
  );
  check(`nothing is wider than a window of ${width} px`, !scrolls && wide === "", wide);
}

/** The text of all commands that are visible. */
const VISIBLE =
  '[...document.querySelectorAll("pre code")].filter((one) => one.checkVisibility() && one.getClientRects().length > 0).map((one) => one.textContent).join("\\n")';

async function checkPrint(browser: Browser, lines: string) {
  await browser.send("Emulation.setEmulatedMedia", { media: "print" });
  equal("all commands are on paper", await evaluate(browser, VISIBLE), lines);
  const shown = '[...document.querySelectorAll("button")].filter((one) => one.checkVisibility()).length';
  equal("no button is on paper", await evaluate(browser, shown), 0);
  const { data } = await browser.send<{ data: string }>("Page.printToPDF");
  check("it can be printed", Buffer.from(data, "base64").toString("latin1").startsWith("%PDF-"));
  await browser.send("Emulation.setEmulatedMedia", { media: "" });
}

async function checkWithoutScript(browser: Browser, url: string, lines: string) {
  await browser.send("Emulation.setScriptExecutionDisabled", { value: true });
  await visit(browser, url);
  equal("without a script it is the same text", await evaluate(browser, VISIBLE), lines);
  equal(
    "without a script there is no button",
    await evaluate(browser, 'document.querySelectorAll("button").length'),
    0,
  );
  await browser.send("Emulation.setScriptExecutionDisabled", { value: false });
}

/** Nobody else's words run, and no request leaves the page. */
async function checkAlone(browser: Browser, url: string) {
  await visit(browser, url);
  equal(
    "what a node says of itself does not run",
    await evaluate(browser, "[window.evil, document.images.length, document.scripts.length].join()"),
    ",0,1",
  );
  const asked = browser.events.flatMap(({ method, params }) => {
    const { request } = params as { request?: { url: string } };
    return method === "Network.requestWillBeSent" && request && !request.url.startsWith(url)
      ? [request.url]
      : [];
  });
  equal("no request leaves the page", asked.join(), "");
  const said = browser.events.filter(
    ({ method }) => method === "Log.entryAdded" || method === "Runtime.exceptionThrown",
  );
  equal(
    "the browser has nothing to complain about",
    said.map(({ params }) => JSON.stringify(params)).join(),
    "",
  );
}

if (import.meta.main) await run(main);
