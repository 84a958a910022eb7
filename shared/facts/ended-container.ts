/**
 * Whether a server of the control plane that is waited for can still come: its container has ended by itself, and the
 * last error of its log names a cause that stays. A server that ends is no such cause: kube-apiserver ends while
 * etcd starts, and its kubelet starts it again.
 */
import { again, command } from "../again.ts";
import { etcdClient } from "../etcd-location/client.ts";
import { attempt, attemptLater, Fail } from "../fail.ts";
import { exists, stat } from "../files/files.ts";
import { hostFiles, hostPathOf } from "../manifests/command.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import {
  type CONTROL_PLANE,
  type Container,
  containers,
  inspect,
  isServerContainer,
  lastLines,
} from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { quoteUntrusted } from "../plain.ts";
import { shell } from "../shell-line.ts";
import type { Ended } from "../wait-for.ts";
import { startWithoutFlag } from "./lost-files.ts";
import type { ControlPlaneNode } from "./node-facts.ts";

/** klog's errors, cobra's, Go's own, and those of etcd's log. */
const ERROR = /^[EF]\d{4} |^Error: |^error: |^panic: |"level":"(error|fatal|panic)"|^flag provided but not/;
const NO_FILE = /\b(?:open|stat|lstat) (\/[^\s:"\\]+): no such file or directory/;
const FLAG = /unknown (?:shorthand )?flag|flag provided but not defined|invalid (?:argument|value) "/;

/** Such an error ends by itself, when another server, or the old process, is ready. */
const PASSES =
  /refused|deadline|time[d ]?-?out|in use|unreachable|no route|\bEOF\b|reset by peer|lost|shut|unauthorized|forbidden|not ready|unavailable|too many|try again|leader/i;

/** So many times in a row the same end, while all that it needs is there, is no accident. */
const SAME_ENDS = 3;

/**
 * Passed to a wait for this server (`waitFor`, `ended`). Its end is final where the log's last error names a file that its
 * manifest names and that is not on this node, or a flag that it does not know; or where it has ended with the same
 * error three times during this wait, each time while what it `needs` answered. A container that is older
 * than its manifest, or that was stopped, shows nothing.
 */
export function containerEnd(
  { node }: { node: Node },
  name: (typeof CONTROL_PLANE)[number],
  needs: () => Promise<boolean> = async () => false,
): Ended {
  const path = manifestPath({ node }, name);
  const ends = new Map<string, string>();
  return async () => {
    const last = await attemptLater(() => lastEnded(node, name), undefined);
    const modified = stat(path)?.modified;
    if (!last || !modified || last.created < modified) return undefined;
    const line = ends.get(last.id) ?? (await attemptLater(() => errorOf(last, node), undefined));
    if (!line) return undefined;
    const words = `its container has exited: ${quoteUntrusted(line)}`;
    const cause = causeOf(line, { path, name });
    if (cause) return new Fail(`${name} does not start: ${words}`, { hint: cause });
    if (PASSES.test(line) || !(await attemptLater(needs, false))) return words;
    ends.set(last.id, line);
    const same = [...ends.values()].filter((other) => withoutNumbers(other) === withoutNumbers(line));
    return same.length < SAME_ENDS
      ? words
      : new Fail(`${name} does not start, and exits with the same error each time: ${words}`, {
          hint: shell`crictl logs ${last.id}; its flags are in ${path}. Mend that, then: ${again({})}`,
        });
  };
}

/** Undefined where its newest one runs. */
async function lastEnded({ runtimeEndpoint }: Node, name: string): Promise<Container | undefined> {
  const own = (await containers(runtimeEndpoint)).filter(
    (one) => isServerContainer(one) && one.name === name,
  );
  const newest = own.toSorted((a, b) => b.created.getTime() - a.created.getTime())[0];
  return newest?.running ? undefined : newest;
}

/** The last error of its log; "" where it was stopped, or has ended well. klog ends a program with 255. */
async function errorOf({ id }: Container, { runtimeEndpoint }: Node): Promise<string> {
  const { exitCode = 0 } = await inspect(runtimeEndpoint, id);
  if (exitCode === 0 || (exitCode > 128 && exitCode !== 255)) return "";
  const lines = await lastLines(runtimeEndpoint, id);
  return lines.findLast((line) => ERROR.test(line) || FLAG.test(line)) ?? lines.at(-1) ?? "";
}

/** The way out of a cause that stays. The log only says where to look: the manifest and the disk decide. */
function causeOf(line: string, { path, name }: { path: string; name: string }): string | undefined {
  const manifest = attempt(() => readManifest(path), undefined);
  const inside = NO_FILE.exec(line)?.[1];
  const lost = inside && manifest ? hostPathOf(manifest, inside) : undefined;
  if (manifest && lost !== undefined && !exists(lost)) {
    const flag = hostFiles(manifest).find(
      (file) => file.path === lost && file.namedBy.startsWith("--"),
    )?.namedBy;
    const means = flag && name === "kube-apiserver" ? startWithoutFlag(flag) : undefined;
    const part2 = command("02-control-plane");
    const without = means ? `. If nobody has it: ${part2} --start-without ${flag!.slice(2)} (${means})` : "";
    const back = shell`bring ${lost} back`;
    return `${back}${flag ? ` (${flag} names it)` : ""}, then: ${again({})}${without}`;
  }
  return FLAG.test(line) ? `${shell`correct this flag in ${path}`}, then: ${again({})}` : undefined;
}

/** Times, process ids and line numbers differ from start to start. */
function withoutNumbers(line: string): string {
  return line.replaceAll(/\d+/g, "0");
}

export function whyApiServerExited(cp: ControlPlaneNode): Ended {
  return containerEnd(cp, "kube-apiserver", async () => (await etcdClient(cp.facts)?.status()) !== undefined);
}
