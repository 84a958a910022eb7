/**
 * A real browser without a window: Chromium from Debian's packages, driven by its DevTools protocol
 * (https://chromedevtools.github.io/devtools-protocol/).
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { waitFor } from "../../../shared/wait-for.ts";
import type { Needed } from "./packages.ts";

export const BROWSER_PACKAGES: Needed = [["/usr/bin/chromium", "chromium"]];

/** As the laptop of somebody who has never seen this page. The sandbox of Chromium does not run as root. */
const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--remote-debugging-port=0",
  "--no-first-run",
  "--disable-background-networking",
];

interface Message {
  id?: number;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: { message: string };
}

export type Browser = Awaited<ReturnType<typeof openBrowser>>;

/** Starts it with one empty tab. */
export async function openBrowser() {
  const profile = mkdtempSync(join(tmpdir(), "browser-"));
  const child = Bun.spawn(["/usr/bin/chromium", ...FLAGS, `--user-data-dir=${profile}`, "about:blank"], {
    stdout: "ignore",
    stderr: "ignore",
  });
  const portFile = join(profile, "DevToolsActivePort");
  const hint = `try it by hand: chromium ${FLAGS.join(" ")} about:blank`;
  await waitFor(
    "Chromium to start",
    () => existsSync(portFile) && readFileSync(portFile, "utf8").includes("/"),
    { seconds: 60, hint },
  );
  const [port, path] = readFileSync(portFile, "utf8").split("\n");
  const tab = await connect(`ws://127.0.0.1:${port}${path}`);
  return {
    ...tab,
    async [Symbol.asyncDispose]() {
      tab.close();
      child.kill();
      await child.exited;
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

/** Speaks with the browser's first tab. */
async function connect(url: string) {
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  const waiting = new Map<number, { resolve(value: unknown): void; reject(err: Error): void }>();
  /** Each event so far, in order. */
  const events: { method: string; params: Record<string, unknown> }[] = [];
  socket.onmessage = ({ data }) => {
    const { id, method, params, result, error } = JSON.parse(String(data)) as Message;
    if (method) events.push({ method, params: params as Record<string, unknown> });
    const asked = id === undefined ? undefined : waiting.get(id);
    if (error)
      asked?.reject(
        new Fail(`Chromium refused: ${error.message}`, { hint: "is it the version of Debian 12?" }),
      );
    else asked?.resolve(result);
  };
  let last = 0;
  let sessionId: string | undefined;
  const send = <T>(method: string, params: object = {}) =>
    new Promise<T>((resolve, reject) => {
      const id = ++last;
      waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      socket.send(JSON.stringify({ id, method, params, ...(sessionId ? { sessionId } : {}) }));
    });
  const { targetInfos } = await send<{ targetInfos: { targetId: string; type: string }[] }>(
    "Target.getTargets",
  );
  const { targetId } = targetInfos.find(({ type }) => type === "page")!;
  sessionId = (await send<{ sessionId: string }>("Target.attachToTarget", { targetId, flatten: true }))
    .sessionId;
  for (const domain of ["Page", "Network", "Runtime", "Log"]) await send(`${domain}.enable`);
  // only a page in front may use the clipboard
  await send("Emulation.setFocusEmulationEnabled", { enabled: true });
  return { send, events, close: () => socket.close() };
}

/** Opens an address, and waits until all of it is there. */
export async function visit({ send, events }: Pick<Browser, "send" | "events">, url: string) {
  const before = events.length;
  await send("Page.navigate", { url });
  const loaded = () => events.slice(before).some(({ method }) => method === "Page.loadEventFired");
  await waitFor("the page to be there", loaded, { seconds: 30, hint: url });
}

/** The value of an expression in the page. */
export async function evaluate<T>({ send }: Pick<Browser, "send">, expression: string): Promise<T> {
  interface Answer {
    result: { value: T };
    exceptionDetails?: { text: string; exception?: { description?: string } };
  }
  const { result, exceptionDetails } = await send<Answer>("Runtime.evaluate", {
    expression,
    awaitPromise: true,
    returnByValue: true,
    userGesture: true,
  });
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value;
}

/** A window of this width, as a phone or a laptop has it. */
export async function resize({ send }: Pick<Browser, "send">, width: number, { phone = false } = {}) {
  await send("Emulation.setDeviceMetricsOverride", {
    width,
    height: 800,
    deviceScaleFactor: phone ? 2 : 1,
    mobile: phone,
  });
}
