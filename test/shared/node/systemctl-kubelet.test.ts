/** Before a repair changes anything the kubelet is stopped, in whatever state it is. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { failOf } from "../../../shared/fail.ts";
import { writeFile } from "../../../shared/files/files.ts";
import { stopKubelet, systemctlKubelet, unfitKubelet } from "../../../shared/node/systemctl-kubelet.ts";
import { write } from "../../pretend/cluster.ts";
import { KUBESPRAY_KUBELET } from "../../pretend/etcd-as-unit.ts";
import { type FakeCommand, programsHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const STOP = "systemctl stop kubelet";

/** What is called to stop it, where `systemctl is-active` says so. */
async function stopped(is: Partial<FakeCommand>, stop: Partial<FakeCommand> = {}) {
  using _box = sandbox();
  using fake = programsHere([
    { command: "systemctl is-active kubelet", ...is },
    { command: STOP, ...stop },
  ]);
  const fail = await failOf(() => stopKubelet());
  return { calls: fake.calls().filter((call) => call === STOP).length, fail: fail?.message };
}

test.each([
  ["active", 0, 1],
  ["activating", 3, 1],
  ["failed", 3, 1],
  ["inactive", 3, 0],
])("a kubelet that is %s", async (state, exit, calls) => {
  expect(await stopped({ stdout: `${state}\n`, exit })).toEqual({ calls, fail: undefined });
});

test("where systemd does not answer, nothing goes on beside a kubelet that may run", async () => {
  const late = { stderr: "Failed to retrieve unit state: Connection timed out\n", exit: 1 };
  expect(await stopped(late, late)).toEqual({
    calls: 1,
    fail: expect.stringContaining("Connection timed out"),
  });
});

const CAT = "systemctl cat kubelet";
const SHOW = "systemctl show -p MainPID --value kubelet";
const START = "systemctl start kubelet";
const LATE = { stderr: "Failed to connect to bus: Connection timed out\n", exit: 1 };
const NONE = { stderr: "No files found for kubelet.service.\n", exit: 1 };
const UNIT = { stdout: KUBESPRAY_KUBELET };

/** Of a node whose file with the kubelet's flags is lost: what `systemctl cat` and `show` say in turn. */
async function started(cat: Partial<FakeCommand>[], show: Partial<FakeCommand>[] = [{ stdout: "0\n" }]) {
  using _box = sandbox();
  const answers = [
    ...cat.map((one) => ({ command: CAT, ...one })),
    ...show.map((one) => ({ command: SHOW, ...one })),
    { command: START },
  ];
  using fake = programsHere(answers, { KUBE_PKI_REPAIR_PATIENCE: "0.01" });
  const fail = await failOf(() => systemctlKubelet("start"));
  return {
    asked: fake.calls().filter((call) => call === CAT).length,
    starts: fake.calls().includes(START),
    fail: fail?.message,
  };
}

test("a kubelet without its flags is not started where systemd is silent at the first question for its unit", async () => {
  const lost = { starts: false, fail: expect.stringContaining("would be started without --kubeconfig") };
  expect(await started([UNIT])).toMatchObject(lost);
  expect(await started([LATE, UNIT])).toMatchObject(lost);
  expect(await started([UNIT], [LATE, { stdout: "0\n" }])).toMatchObject(lost);
});

test("where systemd stays silent, nothing is started; where it knows no such unit, nobody waits", async () => {
  expect(await started([LATE])).toMatchObject({
    starts: false,
    fail: expect.stringContaining("Connection timed out"),
  });
  expect(await started([NONE])).toEqual({ asked: 1, starts: true, fail: undefined });
});

const OWN_UNIT = `[Service]\nExecStart=/usr/bin/kubelet --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml`;
const CA = "authentication:\n  x509:\n    clientCAFile: pki/ca.crt\n";
const IN_DROP_IN = " --config-dir=/etc/kubelet.d";

/** [what, flags, files, what is missing] */
test.each<[string, string, Record<string, string>, string | undefined]>([
  ["beside its configuration", "", { "config.yaml": CA, "pki/ca.crt": "x" }, undefined],
  ["that is lost beside it", "", { "config.yaml": CA }, "/var/lib/kubelet/pki/ca.crt"],
  [
    "in JSON",
    "",
    { "config.yaml": '{"authentication": {"x509": {"clientCAFile": "/gone.crt"}}}' },
    "/gone.crt",
  ],
  [
    "in a drop-in",
    IN_DROP_IN,
    { "../../../etc/kubelet.d/a.conf": "authentication: {x509: {clientCAFile: /gone.crt}}" },
    "/gone.crt",
  ],
  ["none", "", { "config.yaml": "maxPods: 9" }, undefined],
])("the CA that a kubelet trusts: %s", async (_, flags, files, missing) => {
  using box = sandbox();
  for (const [path, text] of Object.entries({ "config.yaml": "maxPods: 9", ...files }))
    write(join(box.dir, "var/lib/kubelet", path), text);
  write(`${box.dir}/etc/kubernetes/kubelet.conf`, "");
  using _fake = programsHere([
    { command: CAT, stdout: `${OWN_UNIT}${flags}\n` },
    { command: SHOW, stdout: "0\n" },
  ]);
  const fail = await unfitKubelet();
  expect(fail?.message).toEqual(
    missing && `The kubelet cannot start: "${missing}" is missing, the CA that it trusts`,
  );
});

const [CONFIG, FOLDER, KUBECONFIG] = ["/etc/kubelet.yaml", "/etc/kubelet.d", "/etc/kubelet.conf"];

test.each([
  ["its drop-ins", [CONFIG, KUBECONFIG], "may have set any field"],
  ["its drop-ins and its main file", [KUBECONFIG], "may have set any field"],
  ["its main file", [`${FOLDER}/a.conf`, KUBECONFIG], "Another node has it"],
  ["its kubeconfig", [CONFIG, `${FOLDER}/a.conf`], "what the kubelet reads. RUNBOOK-MORE"],
])("a kubelet without %s: the hint says how that comes back", async (_, files, hint) => {
  using _box = sandbox();
  for (const path of files) writeFile(path, "kind: KubeletConfiguration\n");
  const exec = `/usr/bin/kubelet --config=${CONFIG} --config-dir=${FOLDER} --kubeconfig=${KUBECONFIG}`;
  using _programs = programsHere([
    { command: CAT, stdout: `[Service]\nExecStart=${exec}\n` },
    { command: SHOW, stdout: "0\n" },
    { command: "journalctl *" },
  ]);
  const fail = await unfitKubelet();
  expect(fail?.message).toStartWith("The kubelet cannot start: ");
  expect(fail?.hint).toContain(hint);
});
