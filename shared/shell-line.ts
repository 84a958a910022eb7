/**
 * Lines that an operator types or pastes: each name and path in them is one word to the shell, whatever it
 * contains. Other people choose names: of pods, nodes and members, and of the files in their flags.
 */
import { plainLine } from "./plain.ts";

/**
 * One word, in one line; quoted only if necessary. Characters that a terminal obeys are written for bash:
 * $'\u001b'.
 */
export function shellWord(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  const isShown = plainLine(text) === text;
  return isShown
    ? programWord(text)
    : `$'${plainLine(text.replace(/[\\']/g, "\\$&").replaceAll("\t", "\\t"))}'`;
}

/** One word for a shell behind this one, as ssh's is. */
export function wordThere(text: string): string {
  return shellWord(shellWord(text));
}

/** A shell program of ours as one word, with its lines unchanged: `sh -c WORD`. Names go through `shell`. */
export function programWord(program: string): string {
  return `'${program.replaceAll("'", `'\\''`)}'`;
}

/**
 * shell`rm -r ${path}`: the text is the shell's, each value is a word, each list as many words. No value
 * becomes an option of the program: one that begins with "-" stands behind "--", or behind the "=" of its
 * option. So options stand before names in the text.
 */
export function shell(
  texts: TemplateStringsArray,
  ...values: readonly (string | readonly string[])[]
): string {
  let line = "";
  let isEnded = false;
  for (const [index, text] of texts.entries()) {
    line += text;
    if (/[;&|#\n]/.test(text)) isEnded = false;
    const words = [values[index] ?? []].flat();
    const isDashed = words.some((word) => word.startsWith("-")) && /(?:^|[\s(])$/.test(line);
    const option = ITS_VALUE.exec(text)?.[1];
    if (isDashed && option) line = `${line.slice(0, -1)}${option.startsWith("--") ? "=" : ""}`;
    else if (isDashed && !isEnded) {
      line += "-- ";
      isEnded = true;
    }
    line += words.map(shellWord).join(" ");
  }
  return line;
}

/**
 * An option whose value comes next. Single letters are -m MODE, -n NAMESPACE, -T TARGET, which are switches
 * in no line of ours. One switch is excluded.
 */
const ITS_VALUE = /(?:^|\s)(--(?!ignore-not-found )[a-z][\w-]*|-[mnT]) $/;

export const KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf";

/**
 * Lines that name the files of this node and its people, and the cluster's objects, that have one of these words; of
 * their content nothing is shown. `options` of grep, as "w": only whole words. People choose what is in their homes: no
 * link of theirs is followed, nor a file system entered; only files are opened (-D skip: also where one has just become a
 * FIFO); and each name is one line of plain characters. Root's own links are followed, at the ends with a slash.
 */
export function linesThatFind(words: readonly string[], options = ""): [files: string, objects: string] {
  const patterns = words.map((word) => `-e ${shellWord(word)}`).join(" ");
  const objects = `${KUBECTL} get ${WITH_PLACES} -A -o go-template='${ONE_EACH_LINE}'`;
  const named = ["sed 's/\\\\[nrt]/ /g'", `grep -F${options} ${patterns}`, "cut -d' ' -f1,2"];
  const isLeftOut = "-type d \\( -name pods -o -name cache -o -name tmp \\) -prune";
  const find = `find ${WITH_FILES} -xdev ${isLeftOut} -o -type f -exec grep -lsZF${options} -D skip ${patterns} {} + 2> /dev/null`;
  return [`${find} | tr '\\n\\0' '?\\n' | cat -v | sort -u`, [objects, ...named].join(" | ")];
}

/** The second may be a file system of its own. */
const WITH_FILES = "/etc /etc/kubernetes/ /var/lib/kubelet/ /root/.kube/ /home/*/.kube";

/** Kinds that people write; the others follow by themselves, or only record the past. */
const WITH_PLACES =
  "cm,secrets,svc,endpoints,ing,netpol,deploy,ds,sts,cronjobs,crds,apiservices,validatingwebhookconfigurations,mutatingwebhookconfigurations";

/** A Secret's values are in base64. */
const ONE_EACH_LINE = `{{range .items}}{{.kind}} {{with .metadata.namespace}}{{.}}/{{end}}{{.metadata.name}} {{printf "%q" (print .)}}{{if eq .kind "Secret"}}{{range .data}}{{printf "%q" (base64decode .)}}{{end}}{{end}}{{"\\n"}}{{end}}`;

/** The kernel keeps so many characters of a program's name: `comm` in proc(5). */
export const COMM = 15;

/**
 * The line that sends a signal to exactly the processes of these static pods, on the node where it is typed.
 * It needs no kit, no crictl and no API. A pod's cgroup has "pod" and the pod's UID in its name, whatever the
 * runtime, the driver and the version of cgroups. A kubelet gives its static pods UIDs of 32 digits in a row
 * (an MD5 sum); all others have dashes, or underscores if systemd names the cgroup. So Calico's
 * kube-controllers, Cilium's etcd or a tenant's control plane do not match, whatever their names. Cgroups
 * that a user names so below user.slice do not match either: the line would signal only his own processes,
 * but wait for each. TERM is a request: the line ends when the process has, which takes etcd some seconds.
 */
export function signalLine(signal: "STOP" | "CONT" | "TERM" | "KILL", names: readonly string[]): string {
  const programs = names.map((name) => name.slice(0, COMM)).join("|");
  const pgrep = names.length > 1 ? `pgrep -x "${programs}"` : `pgrep -x ${programs}`;
  const ended = signal === "TERM" ? " && timeout 60 tail --pid=$p -f /dev/null" : "";
  return `for p in $(${pgrep}); do grep -qE "^[^/]*/(u[^s]|[^u]).*pod[0-9a-f]{32}" /proc/$p/cgroup && kill -${signal} $p${ended}; done || true`;
}

/** The kubelet first: it starts etcd again. */
export const STOP_ETCD = `systemctl stop kubelet; ${signalLine("TERM", ["etcd"])}`;

/**
 * A line for root on another machine. Its shell reads the line again, so a line with quotes is one word here.
 */
export function onOther(name: string, line: string): string {
  return `${shell`ssh root@${name}`} ${/^[\w@%+=:,./ -]+$/.test(line) ? line : shellWord(line)}`;
}
