/**
 * The nodes by the system's own ssh, whose configuration is honoured: one connection for each node. It asks once about an
 * unknown host key, on the terminal; everything else goes through it, in sessions of their own, so that Ctrl-C here
 * reaches none of them.
 */
import { randomBytes } from "node:crypto";
import { lstatSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { processRuns } from "../files/files.ts";
import { quoteUntrusted } from "../plain.ts";
import { ROOT } from "../plan/login.ts";
import { programWord } from "../shell-line.ts";
import { ENDED_HERE, type Host, type Output, type Transport } from "./host.ts";
import { boundedText, Leash } from "./leash.ts";
import { meetBySsh, reportMeeting } from "./meet.ts";
import type { Patience } from "./patience.ts";
import { folderIn, privateFolder } from "./private-folder.ts";
import { pump } from "./pump.ts";
import { AT_TERMINAL, Turns } from "./turns.ts";

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

interface SshOptions {
  quiet: number | undefined;
  longestMeeting: number | undefined;
  folder: string;
}

/** Seconds for a connection that somebody may have to answer questions for. */
const MEETING = 600;

/** Connections that a jump host makes at the same time: sshd drops some of more than ten (MaxStartups). */
const THROUGH_A_JUMP_HOST = 8;

const DIRECTLY: SameWay = { port: "22", proxyJump: "none" };

const PIPES = { stdout: "pipe", stderr: "pipe", detached: true } as const;

export class Ssh implements Transport, Disposable {
  readonly #dir: string;
  /** A host may get another name, once its plan has said it. */
  readonly #sockets = new Map<Host, string>();
  readonly #isAsked: boolean;
  readonly #quiet: number | undefined;
  readonly #longestMeeting: number;
  /** Made so far, or tried: ssh makes no socket over one that a lost connection has left. */
  #connections = 0;
  #through = new Turns(Number.POSITIVE_INFINITY);
  /** Stands before each answer. A node cannot know it before it is asked. */
  readonly #mark = `answer-${randomBytes(8).toString("hex")}`;
  #way = DIRECTLY;

  /**
   * `isAsked`: somebody is at the terminal, and may answer ssh's questions. `quiet`, `longestMeeting`: seconds. `folder`:
   * for sockets.
   */
  constructor(
    isAsked: boolean,
    { quiet, longestMeeting = MEETING, folder = folderIn({}) }: Partial<SshOptions> = {},
  ) {
    this.#longestMeeting = longestMeeting;
    this.#dir = privateFolder(folder, `${SOCKETS}${process.pid}-`);
    this.#isAsked = isAsked;
    this.#quiet = quiet;
  }

  async meet(host: Host): Promise<string | undefined> {
    if (host.isHere) return undefined;
    if (this.#sockets.size === 0) {
      closeOfDead(dirname(this.#dir));
      this.#way = await this.#wayTo(host);
      if (this.#way.proxyJump !== DIRECTLY.proxyJump) this.#through = new Turns(THROUGH_A_JUMP_HOST);
    }
    const argv = (...asks: string[]) => {
      this.#sockets.set(host, join(this.#dir, String(this.#connections++)));
      const master = ["-M", "-N", "-f", "-o", `ControlPersist=${PERSIST}`];
      return ["ssh", ...master, "-o", ...asks, ...this.#options(host), loginOf(host)];
    };
    const seconds = this.#longestMeeting;
    const silently = await this.#through.take(() => meetBySsh(argv("BatchMode=yes"), { seconds }));
    if (silently.isMet || !this.#isAsked || !silently.mayBeAsked) return reportMeeting(host, silently);
    const meetAtTerminal = () => meetBySsh(argv("StrictHostKeyChecking=ask"), { seconds, asks: host });
    return reportMeeting(host, await AT_TERMINAL.take(meetAtTerminal));
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

  /** The arguments that run the command as root. */
  #argv(host: Host, command: string, { terminal = false } = {}): string[] {
    if (host.isHere) return ["/bin/sh", "-c", command];
    const marked = terminal ? command : `echo ${this.#mark}; ${command}`;
    const asRoot = host.user === ROOT ? marked : `sudo -n sh -c ${programWord(marked)}`;
    const through = ["-o", "BatchMode=yes", "-o", "ControlMaster=no"];
    return ["ssh", terminal ? "-t" : "-T", ...through, ...this.#options(host), loginOf(host), asRoot];
  }

  #markOf({ isHere }: Host): string | undefined {
    return isHere ? undefined : this.#mark;
  }

  async run(host: Host, command: string, how: Parameters<Transport["run"]>[2] = {}): Promise<Output> {
    const { input, onLine } = how;
    const child = Bun.spawn(this.#argv(host, command), { stdin: input ?? "ignore", ...PIPES });
    const { name } = host;
    const reasons = { silence: `${name} has said nothing`, work: `${name} has been at work` };
    using leash = new Leash([child], { ...reasons, quiet: this.#quiet, ...how });
    const [stdout, stderr, exitCode] = await Promise.all([
      boundedText(child.stdout, { leash, name, mark: this.#markOf(host) }),
      boundedText(child.stderr, { leash, name, onLine }),
      child.exited,
    ]);
    if (leash.reason === undefined) return { stdout, stderr, exitCode };
    const why = `error: ${leash.reason}: its connection was ended here\nhint: look at ${name} by hand, or leave it out: --without ${name}`;
    return { stdout, stderr: `${why}\n${stderr}`, exitCode: ENDED_HERE };
  }

  async onTerminal(host: Host, command: string): Promise<number> {
    const argv = this.#argv(host, command, { terminal: true });
    return await Bun.spawn(argv, { stdio: ["inherit", "inherit", "inherit"] }).exited;
  }

  async pipe(
    from: Host,
    pack: string,
    to: Host,
    unpack: string,
    how: Patience = {},
  ): Promise<string | undefined> {
    const source = Bun.spawn(this.#argv(from, pack), { stdin: "ignore", ...PIPES });
    const sink = Bun.spawn(this.#argv(to, unpack), { stdin: "pipe", ...PIPES });
    const silence = `nothing has come from ${from.name} to ${to.name}`;
    const work = `${from.name} has sent to ${to.name}`;
    using leash = new Leash([source, sink], { silence, work, quiet: this.#quiet, ...how });
    const [fromSource, fromSink, printed] = await Promise.all([
      boundedText(source.stderr, { leash, name: from.name }),
      boundedText(sink.stderr, { leash, name: to.name }),
      boundedText(sink.stdout, { leash, name: to.name, mark: this.#markOf(to) }),
      pump(source.stdout, sink.stdin, { leash, name: from.name, mark: this.#markOf(from) }),
    ]);
    const codes = [await source.exited, await sink.exited];
    if (leash.reason === undefined && codes.every((code) => code === 0)) return undefined;
    const why = leash.reason ?? `exit codes ${codes.join(" and ")}`;
    return `${why}: ${quoteUntrusted(`${fromSource}${fromSink}${printed}`)}`;
  }

  /** A port and a jump host that the operator's configuration has for the first node. */
  async #wayTo(host: Host): Promise<SameWay> {
    const child = Bun.spawn(["ssh", "-G", loginOf(host)], { stdin: "ignore", ...PIPES });
    using leash = new Leash([child], { silence: "ssh -G has said nothing", work: "ssh -G has been at work" });
    const settings = await boundedText(child.stdout, { leash, name: "ssh -G" });
    const value = (name: string, form: RegExp) =>
      settings
        .split("\n")
        .find((line) => line.startsWith(`${name} `) && form.test(line.slice(name.length + 1)))
        ?.slice(name.length + 1);
    return {
      port: value("port", /^\d{1,5}$/) ?? DIRECTLY.port,
      proxyJump: value("proxyjump", /^[^\s-]\S*$/) ?? DIRECTLY.proxyJump,
    };
  }

  [Symbol.dispose]() {
    for (const socket of readdirSync(this.#dir)) endMaster(join(this.#dir, socket));
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

const SOCKETS = "kpr-ssh-";

/** Connections that a repair has left which was killed: nobody else closes them, or removes their folder. */
function closeOfDead(folder: string) {
  for (const name of readdirSync(folder)) {
    const pid = Number(/^kpr-ssh-(\d+)-/.exec(name)?.[1]);
    const dir = join(folder, name);
    if (!pid || processRuns(pid) || lstatSync(dir).uid !== process.getuid!()) continue;
    for (const socket of readdirSync(dir)) endMaster(join(dir, socket));
    rmSync(dir, { recursive: true, force: true });
  }
}

/** ssh asks for a destination, and does not use it. */
function endMaster(socket: string) {
  Bun.spawnSync(["ssh", "-o", `ControlPath=${socket}`, "-O", "exit", "root@left"], {
    stdio: ["ignore", "ignore", "ignore"],
  });
}

function loginOf({ user, address }: Host): string {
  return `${user}@${address}`;
}
