/**
 * Loaded before a script (bun --preload): it loses power after change number PRETEND_CUT_AFTER, of files, of
 * the cluster, or of the machine.
 */
import { plugin } from "bun";
import { $ } from "zx/core";
import { changed } from "./cut-counter.ts";

const HOME = new URL("../..", import.meta.url).pathname;

plugin({
  name: "cut-off",
  setup(build) {
    build.onLoad({ filter: new RegExp(`^${HOME}(shared|scripts)/.*\\.ts$`) }, async ({ path }) => ({
      loader: "ts",
      contents: (await Bun.file(path).text()).replaceAll(
        '"node:fs"',
        JSON.stringify(`${import.meta.dir}/cut-fs.ts`),
      ),
    }));
  },
});

/** Questions that are asked with POST. */
const ASKS = /reviews$|dryRun=All$|:2379\/v3\/(?!cluster\/member\/remove)/;

const ask = globalThis.fetch;
globalThis.fetch = Object.assign(async (...args: Parameters<typeof fetch>) => {
  const response = await ask(...args);
  const [url, { method = "GET" } = {}] = args;
  if (method !== "GET" && !ASKS.test(String(url))) changed(`${method} ${url}`);
  return response;
}, ask);

const ACTS = /systemctl (stop|start|restart) |crictl .* stop |systemd-run /;

const spawn = $.spawn;
$.spawn = ((...args: Parameters<typeof spawn>) => {
  const child = spawn(...args);
  const line = args
    .flat()
    .filter((arg) => typeof arg === "string")
    .join(" ");
  if (ACTS.test(line)) child.prependOnceListener("exit", () => changed(ACTS.exec(line)![0]));
  return child;
}) as typeof spawn;
