/** The kubelet's configuration in the main file and in its drop-in folder. */
import { expect, test } from "bun:test";
import { writeFile } from "../../../shared/files/files.ts";
import { withDropIns } from "../../../shared/node/kubelet-drop-ins.ts";
import { envText, lostEnv, withRestoredEnv } from "../../../shared/node/lost-environment.ts";
import { flagsOf, readUnit } from "../../../shared/node/systemd-unit.ts";
import { write } from "../../pretend/cluster.ts";
import { KUBESPRAY_KUBELET } from "../../pretend/etcd-as-unit.ts";
import { programsHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const FOLDER = "/etc/kubernetes/kubelet.conf.d";
const MAIN = {
  staticPodPath: "/etc/kubernetes/manifests",
  authentication: { x509: { clientCAFile: "/etc/kubernetes/pki/ca.crt" }, webhook: { enabled: true } },
};

test("drop-ins change the kubelet's configuration in the order of their paths, field by field; other files do not count", () => {
  using _box = sandbox();
  const put = (name: string, text: string) => writeFile(`${FOLDER}/${name}`, text);
  put("20-later.conf", "staticPodPath: /etc/later\nserverTLSBootstrap: yes\n");
  put(
    "10-first.conf",
    "staticPodPath: /etc/first\nauthentication: {x509: {clientCAFile: /etc/kubernetes/ssl/ca.crt}}\n",
  );
  put("30-more/webhook.conf", "authentication: {webhook: null}\n");
  put("90-note.yaml", "staticPodPath: /etc/nobody\n");
  expect(withDropIns<object>(MAIN, FOLDER)).toEqual({
    staticPodPath: "/etc/later",
    serverTLSBootstrap: true,
    authentication: { x509: { clientCAFile: "/etc/kubernetes/ssl/ca.crt" } },
  });
  expect(MAIN.authentication.webhook).toEqual({ enabled: true });
});

test("without --config-dir, and where its folder is lost, the main file counts alone", () => {
  using _box = sandbox();
  expect(withDropIns(MAIN, undefined)).toEqual(MAIN);
  expect(withDropIns(MAIN, FOLDER)).toEqual(MAIN);
});

test.each([
  ["a list", "- one\n", /is no KubeletConfiguration/],
  ["no YAML", "a: {\n", /Cannot read the kubelet's drop-in/],
])("a drop-in that is %s is named, as the kubelet refuses it, too", (_, text, message) => {
  using _box = sandbox();
  writeFile(`${FOLDER}/10-broken.conf`, text);
  expect(() => withDropIns(MAIN, FOLDER)).toThrow(
    expect.objectContaining({ message: expect.stringMatching(message) }),
  );
});

test.each<[what: string, unit: string, command: string[]]>([
  ["a line that goes on", "ExecStart=/a \\\n\t--b=c \\\n\t--d\n", ["/a", "--b=c", "--d"]],
  ["the last ExecStart=", "ExecStart=/a\nExecStart=\nExecStart=/b --c\n", ["/b", "--c"]],
  [
    "a variable of several words, and one inside a word",
    `Environment="A=--b --c" D=e\nExecStart=/x $A --f=$\{D} $NONE\n`,
    ["/x", "--b", "--c", "--f=e"],
  ],
  [
    "a file's variable, which comes last",
    "EnvironmentFile=/etc/x.env\nEnvironment=A=--early\nExecStart=/x $A\n",
    ["/x", "--late", "--spaced=a b"],
  ],
  [
    "files that a drop-in takes back",
    "EnvironmentFile=/etc/x.env\nEnvironmentFile=\nExecStart=/x $A\n",
    ["/x"],
  ],
  ["comments", "# ExecStart=/no\n; ExecStart=/no\nExecStart=/x\n", ["/x"]],
  ["quotes", `ExecStart=/x "--a=b c" '--d' --e="f g"\n`, ["/x", "--a=b c", "--d", "--e=f g"]],
])("readUnit() knows %s", (_, unit, command) => {
  using box = sandbox();
  write(`${box.dir}/etc/x.env`, `# a comment\nA="--late '--spaced=a b'"\n`);
  expect(readUnit(`[Service]\n${unit}`).command).toEqual(command);
});

test("readUnit() says which files are there, and which may be missing", () => {
  using box = sandbox();
  write(`${box.dir}/etc/here`, "");
  const { files } = readUnit(
    "EnvironmentFile=-/etc/gone\nEnvironmentFile=/etc/here\nEnvironmentFile=-/etc/*.env\n",
  );
  expect(files).toEqual([
    { path: "/etc/gone", optional: true, isHere: false },
    { path: "/etc/here", optional: false, isHere: true },
    { path: "/etc/*.env", optional: true, isHere: true },
  ]);
});

test("flagsOf() takes a value behind = or behind a space, and the last one of a name", () => {
  expect([...flagsOf(["/x", "--a=b=c", "--d", "e", "--f", "--a=g", "--h"])]).toEqual([
    ["a", "g"],
    ["d", "e"],
    ["f", "true"],
    ["h", "true"],
  ]);
});

/* kubespray's unit has its flags from a file that may be missing. */

const ENV = "/etc/kubernetes/kubelet.env";
const GIVEN = {
  KUBE_LOG_LEVEL: "--v=2",
  KUBELET_HOSTNAME: "--hostname-override=m1",
  KUBELET_ARGS: `--config=/etc/kubernetes/kubelet-config.yaml --kubeconfig=/etc/kubernetes/kubelet.conf --node-labels="a=b",c='d'`,
  NO_PROXY: `10.0.0.0/8,"a b",\\$x\``,
};
const SYSTEMDS = { LANG: "C.UTF-8", INVOCATION_ID: "1", JOURNAL_STREAM: "9:1", SYSTEMD_EXEC_PID: "7" };

/** What a process that was given these variables, or a file of them, brings back. */
async function broughtBack(
  env: Record<string, string>,
  { unit = KUBESPRAY_KUBELET, keptAs = "process" } = {},
) {
  using box = sandbox();
  const end = keptAs === "file" ? "\n" : "\0";
  const text = Object.entries(env)
    .map((pair) => `${pair.join("=")}${end}`)
    .join("");
  write(`${box.dir}${keptAs === "file" ? "/run/kubelet.environ" : "/proc/4711/environ"}`, text);
  const read = readUnit(unit);
  const found = await lostEnv(read, keptAs === "process" ? 4711 : undefined);
  if (!found) return undefined;
  expect(withRestoredEnv(read, found).files.every(({ isHere }) => isHere)).toBe(true);
  write(box.dir + found.path, envText(found));
  const back = readUnit(unit);
  expect(back.command).toEqual(withRestoredEnv(read, found).command);
  return { path: found.path, variables: Object.fromEntries(back.variables) };
}

test.each(["process", "file"])(
  "the kubelet's variables come back from a %s, without systemd's own",
  async (keptAs) => {
    const found = await broughtBack({ ...GIVEN, ...SYSTEMDS }, { keptAs });
    expect(found).toEqual({ path: ENV, variables: GIVEN });
  },
);

test.each<[string, Record<string, string>, string]>([
  ["a kubelet that was started without the file", SYSTEMDS, KUBESPRAY_KUBELET],
  ["a kubelet without --kubeconfig", { ...GIVEN, KUBELET_ARGS: "--v=3" }, KUBESPRAY_KUBELET],
  ["a unit that lacks two files", GIVEN, `${KUBESPRAY_KUBELET}EnvironmentFile=-/etc/kubernetes/more.env\n`],
  ["a unit whose file is kubeadm's", GIVEN, KUBESPRAY_KUBELET.replace(ENV, "/etc/default/kubelet")],
])("nothing comes back from %s", async (_, env, unit) => {
  using _fake = programsHere([{ command: "journalctl *" }]);
  expect(await broughtBack(env, { unit })).toBeUndefined();
});

/** Lines of the journal of one start, as JSON; `noted`: systemd's own line is there. */
const START = (invocation: string, flags: Record<string, string>, noted = true) => [
  ...(noted ? [{ _PID: "1", INVOCATION_ID: invocation, MESSAGE: "Started kubelet.service - kubelet." }] : []),
  ...Object.entries(flags).map(([name, value]) => ({
    ...{ _PID: "812", _SYSTEMD_INVOCATION_ID: invocation },
    MESSAGE: `I1201 03:10:00.123456     812 flags.go:64] FLAG: --${name}="${value}"`,
  })),
];
const LOGGED = {
  address: "0.0.0.0",
  "bootstrap-kubeconfig": "/etc/kubernetes/bootstrap-kubelet.conf",
  config: "/etc/kubernetes/kubelet-config.yaml",
  "container-runtime-endpoint": "unix:///run/containerd/containerd.sock",
  "hostname-override": "w1",
  kubeconfig: "/etc/kubernetes/kubelet.conf",
  "max-pods": "110",
  "node-ip": "10.0.0.21",
  "node-labels": "",
  v: "2",
};
const ALONE = START("8", { ...LOGGED, kubeconfig: "", config: "", "hostname-override": "", "node-ip": "" });
/** Whoever words a mount's arguments words a line of the kubelet's. */
const FORGED = { kubeconfig: "/tmp/mine", config: "/tmp/mine" };
const BACK =
  "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --config=/etc/kubernetes/kubelet-config.yaml --hostname-override=w1 --kubeconfig=/etc/kubernetes/kubelet.conf --node-ip=10.0.0.21 --v=2";

test.each<[what: string, lines: object[], back: string | undefined]>([
  ["its last start", [...START("7", { ...LOGGED, "node-ip": "10.0.0.9" }), ...START("9", LOGGED)], BACK],
  ["the start before it was started without its file", [...START("7", LOGGED), ...ALONE], BACK],
  ["no start that had a kubeconfig", ALONE, undefined],
  ["a pod's lines later in the same start", [...START("7", LOGGED), ...START("7", FORGED, false)], BACK],
  ["a pod's lines of a start whose own lines are gone", START("7", FORGED, false), undefined],
  ["a pod's lines of a start without flags", [...ALONE, ...START("8", FORGED, false)], undefined],
  [
    "a start that another process notes",
    [{ ...START("7", {})[0], _PID: "99" }, ...START("7", FORGED, false)],
    undefined,
  ],
  ["a value of two words, which would be two flags", START("7", { kubeconfig: "/a --b=c" }), undefined],
])("the kubelet's flags come back from its journal, which has %s", async (_, lines, back) => {
  const log = {
    command: "journalctl -u kubelet * -r *",
    stdout: lines
      .toReversed()
      .map((one) => JSON.stringify(one))
      .join("\n"),
  };
  using _fake = programsHere([log]);
  const found = await broughtBack({}, { unit: KUBESPRAY_KUBELET.replace("$KUBELET_HOSTNAME", "--x") });
  expect(found).toEqual(back ? { path: ENV, variables: { KUBELET_ARGS: back } } : undefined);
});

test("a unit with its own --kubeconfig gets no file that it may lack, whatever its journal has", async () => {
  const lines = START("7", LOGGED).toReversed();
  const log = {
    command: "journalctl -u kubelet *",
    stdout: lines.map((one) => JSON.stringify(one)).join("\n"),
  };
  using fake = programsHere([log]);
  const unit = KUBESPRAY_KUBELET.replace("$KUBELET_HOSTNAME", "--kubeconfig=/etc/kubernetes/kubelet.conf");
  expect(await broughtBack({ HTTPS_PROXY: "http://proxy" }, { unit })).toBeUndefined();
  expect(fake.calls()).toEqual([]);
  // a file that has given it a flag comes back
  const KUBE_LOG_LEVEL = "--v=2";
  expect(await broughtBack({ KUBE_LOG_LEVEL }, { unit })).toEqual({
    path: ENV,
    variables: { KUBE_LOG_LEVEL },
  });
});
