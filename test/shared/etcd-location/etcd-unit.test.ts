/** etcd's unit is read as systemd reads it. */
import { expect, test } from "bun:test";
import { readEtcdUnit, unitSteps } from "../../../shared/etcd-location/etcd-unit.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";

test("of the files beside etcd's unit only those named .conf are its drop-ins: a copy of an earlier one is not heeded", () => {
  using box = sandbox();
  const unit = `${box.dir}/etc/systemd/system/etcd.service`;
  const dataIn = (dir: string) => `[Service]\nEnvironment=ETCD_DATA_DIR=${dir}\n`;
  write(unit, "[Service]\nExecStart=/usr/local/bin/etcd\n");
  write(`${unit}.d/data.conf`, dataIn("/srv/etcd"));
  expect(readEtcdUnit()).toMatchObject({ dataDir: "/srv/etcd" });
  write(`${unit}.d/data.conf.bak`, dataIn("/srv/earlier"));
  expect(readEtcdUnit()).toMatchObject({ dataDir: "/srv/etcd" });
});

test("all files by which etcd proves itself are known, also where it has others for its peers", () => {
  using box = sandbox();
  const files = ["", "peer-"].flatMap((prefix) =>
    ["trusted-ca-file", "cert-file", "key-file"].map((flag) => [
      `${prefix}${flag}`,
      `/etc/etcd/${prefix}${flag}`,
    ]),
  );
  const flags = files.map(([flag, path]) => `--${flag}=${path}`).join(" ");
  write(`${box.dir}/etc/systemd/system/etcd.service`, `[Service]\nExecStart=/usr/local/bin/etcd ${flags}\n`);
  expect(readEtcdUnit()?.files).toEqual(files.map(([, path]) => path!));
});

const CLIENT = ["ca.crt", "client.crt", "client.key"].map((name) => `/etc/kubernetes/pki/etcd-api/${name}`);
const FILES = ["ca.pem", "member.pem", "member-key.pem"].map((name) => `/etc/etcd/${name}`);
const [LEAVE, SALVAGE, CONFIG, PHASES, START] = [
  "leave etcd alone while it runs and its files are here; if not, repair it first: systemctl status etcd; journalctl -u etcd -n 50",
  "./bunw scripts/00-salvage.ts",
  "./bunw scripts/00-assess.ts --kubeadm-config > kubeadm.yaml",
  "kubeadm init phase certs all --config kubeadm.yaml",
  "systemctl start kubelet",
];
const COPIES = `mkdir -p /etc/kubernetes/pki/etcd-api && ${FILES.map((from, i) => `cp -p ${from} ${CLIENT[i]}`).join(" && ")}`;

test.each<[what: string, here: string[], unit: object, steps: string[]]>([
  ["all files are here", CLIENT, {}, [LEAVE, SALVAGE, CONFIG, PHASES, START]],
  [
    "the API server's own are lost: etcd's take their place",
    [],
    {},
    [LEAVE, COPIES, SALVAGE, CONFIG, PHASES, START],
  ],
  [
    "one is lost, and a copy would not fit the others",
    CLIENT.slice(0, 2),
    {},
    [
      LEAVE,
      `put back the files by which the API server reaches etcd: ${CLIENT[2]}`,
      SALVAGE,
      CONFIG,
      PHASES,
      START,
    ],
  ],
  [
    "kubespray made it, and starts the kubelet",
    CLIENT,
    { by: "kubespray" },
    [LEAVE, SALVAGE, CONFIG, PHASES],
  ],
])("beside an etcd that is a unit: %s", (_, here, more, steps) => {
  using box = sandbox();
  for (const path of here) write(box.dir + path, "x");
  const unit = { files: FILES, ...more } as never;
  expect(unitSteps(unit, CLIENT).map((line) => line.split("   #")[0])).toEqual(steps);
});
