/**
 * The nodes by the system's own ssh, whose configuration is honoured: one connection for each node. It asks once about an
 * unknown host key, on the terminal; everything else goes through it, in sessions of their own, so that Ctrl-C here
 * reaches none of them.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { plainLine } from "../plain.ts";
import { ROOT } from "../plan/paste.ts";
import { programWord } from "../shell-line.ts";
import { type Host, MOST_OUTPUT, type Output, type Transport } from "./host.ts";

/** The way to the first destination, by `ssh -G`: the others are reached the same way. */
interface SameWay {
  port: string;
  /** "none": directly. */
  proxyJump: string;
}

/**
 * Seconds for which a connection outlives the last command: a person thinks before a question, and one that was killed
 * leaves none for long.
 */
const PERSIST = 600;

const DIRECTLY: SameWay = { port: "22", proxyJump: "none" };

/** The longest part of a line without an end that is kept, in characters. */
const LONGEST_LINE = 4096;

export class Ssh implements Transport, Disposable {
  readonly #dir = mkdtempSync(join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), "kpr-ssh-"));
  /** A host may get another name, once its plan has said it. */
  readonly #sockets = new Map<Host, string>();
  readonly #isAsked: boolean;
  #way = DIRECTLY;

  /** `isAsked`: somebody is at the terminal, and may answer ssh's questions. */
  constructor(isAsked: boolean) {
    this.#isAsked = isAsked;
  }

  async meet(host: Host): Promise<boolean> {
    if (host.isHere) return true;
    if (this.#sockets.size === 0) this.#way = await wayTo(host);
    const socket = join(this.#dir, String(this.#sockets.size));
    this.#sockets.set(host, socket);
    const master = ["-M", "-N", "-f", "-o", `ControlPersist=${PERSIST}`];
    const asks = ["-o", this.#isAsked ? "StrictHostKeyChecking=ask" : "BatchMode=yes"];
    const child = Bun.spawn(["ssh", ...master, ...asks, ...this.#options(host), loginOf(host)], {
      stdio: [this.#isAsked ? "inherit" : "ignore", "inherit", "inherit"],
    });
    return (await child.exited) === 0;
  }

  #options(host: Host): string[] {
    const { alias } = host;
    const { port, proxyJump } = this.#way;
    return [
      ...["-o", `ControlPath=${this.#sockets.get(host) ?? "none"}`, "-o", "ConnectTimeout=10"],
      ...["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"],
      ...(alias && port !== DIRECTLY.port ? ["-p", port] : []),
      ...(alias && proxyJump !== DIRECTLY.proxyJump ? ["-J", proxyJump] : []),
      ...(alias ? ["-o", `HostKeyAlias=${alias}`] : []),
    ];
  }

  /** As root. */
  #argv(host: Host, command: string, { terminal = false } = {}): string[] {
    if (host.isHere) return ["/bin/sh", "-c", command];
    const asRoot = host.user === ROOT ? command : `sudo -n sh -c ${programWord(command)}`;
    const through = ["-o", "BatchMode=yes", "-o", "ControlMaster=no"];
    return ["ssh", terminal ? "-t" : "-T", ...through, ...this.#options(host), loginOf(host), asRoot];
  }

  async run(host: Host, command: string, { input, onLine }: Parameters<Transport["run"]>[2] = {}) {
    const child = Bun.spawn(this.#argv(host, command), {
      ...({ stdin: input ?? "ignore", stdout: "pipe", stderr: "pipe", detached: true } as const),
    });
    const [stdout, stderr, exitCode] = await Promise.all([
      textOf(child.stdout),
      textOf(child.stderr, onLine),
      child.exited,
    ]);
    return { stdout, stderr, exitCode } satisfies Output;
  }

  async onTerminal(host: Host, command: string): Promise<number> {
    const argv = this.#argv(host, command, { terminal: true });
    return await Bun.spawn(argv, { stdio: ["inherit", "inherit", "inherit"] }).exited;
  }

  async pipe(from: Host, pack: string, to: Host, unpack: string): Promise<string | undefined> {
    const source = Bun.spawn(this.#argv(from, pack), {
      ...({ stdin: "ignore", stdout: "pipe", stderr: "pipe", detached: true } as const),
    });
    const sink = Bun.spawn(this.#argv(to, unpack), {
      ...({ stdin: source.stdout, stdout: "ignore", stderr: "pipe", detached: true } as const),
    });
    const words = await Promise.all([textOf(source.stderr), textOf(sink.stderr)]);
    const codes = [await source.exited, await sink.exited];
    if (codes.every((code) => code === 0)) return undefined;
    return `exit codes ${codes.join(" and ")}: ${plainLine(words.join("").trim()).slice(0, LONGEST_LINE)}`;
  }

  [Symbol.dispose]() {
    for (const [host, socket] of this.#sockets)
      Bun.spawnSync(["ssh", "-o", `ControlPath=${socket}`, "-O", "exit", loginOf(host)], {
        stdio: ["ignore", "ignore", "ignore"],
      });
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

function loginOf({ user, address }: Host): string {
  return `${user}@${address}`;
}

/** A port and a jump host that the operator's configuration has for the first node. */
async function wayTo(host: Host): Promise<SameWay> {
  const child = Bun.spawn(["ssh", "-G", loginOf(host)], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
  });
  const settings = await textOf(child.stdout);
  const value = (name: string, form: RegExp) =>
    settings
      .split("\n")
      .find((line) => line.startsWith(`${name} `) && form.test(line.slice(name.length + 1)))
      ?.slice(name.length + 1);
  return {
    port: value("port", /^\d{1,5}$/) ?? DIRECTLY.port,
    proxyJump: value("proxyjump", /^[\w@.:,[\]-]+$/) ?? DIRECTLY.proxyJump,
  };
}

/** The first MOST_OUTPUT characters; what comes behind them is read, and dropped. */
async function textOf(stream: ReadableStream<Uint8Array>, onLine?: (line: string) => void): Promise<string> {
  const decoder = new TextDecoder();
  const parts: string[] = [];
  let [length, open] = [0, ""];
  for await (const bytes of stream) {
    const text = decoder.decode(bytes, { stream: true });
    if (length < MOST_OUTPUT) parts.push(text);
    length += text.length;
    if (!onLine) continue;
    const lines = `${open}${text}`.split("\n");
    open = lines.pop()!.slice(-LONGEST_LINE);
    for (const line of lines) onLine(plainLine(line.slice(0, LONGEST_LINE)));
  }
  if (open) onLine?.(plainLine(open));
  return parts.join("").slice(0, MOST_OUTPUT);
}
