/**
 * The cluster's CAs expire, all three in one second, with everything running; their keys are there. Nothing
 * was done in time.
 */
import { certInfo } from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { testFacts } from "../../pretend/facts.ts";
import { sh } from "../machine/machine.ts";
import { type Profile, USUAL } from "../machine/profile.ts";
import { followGuide } from "../scene/follow-repair.ts";
import { note, type Scenario, type Scene, sayAndWait, startClock } from "../scene/scene.ts";
import { allLost, TAGS as NEW_CA_TAGS } from "./all-lost.ts";
import { HA_TAGS, TAGS } from "./expired.ts";
import { TAGS as HA_NEW_CA_TAGS } from "./several-control-planes.ts";

export const CAS = ["ca", "etcd-ca", "front-proxy-ca"].map(certRow);

/** Hours. In use for longer than a moment, as every CA that ends. */
const AGE = 48;

/**
 * kubeadm takes CAs that it finds. They are valid for as long as the lab needs to build the cluster.
 * `signed`: who signs them.
 */
export function endingIn(
  minutes: number,
  signed: (cert: string, until: Date) => string | Promise<string> = (cert) => cert,
): () => Promise<Profile> {
  return async () => {
    const facts = testFacts({ keyAlgorithm: "RSA-2048", caValidityHours: AGE + minutes / 60 });
    const now = new Date(Date.now() - AGE * 3_600_000);
    const until = new Date(Date.now() + minutes * 60_000);
    const files: Record<string, string> = {};
    for (const row of CAS) {
      const { cert, key } = await issueCa(row, facts, { now });
      files[`${USUAL.certificatesDir}/${row.file}.crt`] = await signed(cert, until);
      files[`${USUAL.certificatesDir}/${row.file}.key`] = key;
    }
    return { ...USUAL, controlPlaneFiles: { ...USUAL.controlPlaneFiles, ...files } };
  };
}

export const caEnded: Scenario = {
  ...allLost,
  name: "ca-ended",
  title: "All CAs expire while everything runs, and their keys are there; the operator follows RUNBOOK.md",
  profile: endingIn(4),
  lines: [
    { title: "The CAs expire", run: (scene) => theyExpire(scene) },
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
    { title: "The renewed CAs are compared", run: compareCas },
  ],
};

export const haCaEnded: Scenario = {
  ...caEnded,
  name: "ha-ca-ended",
  title: "As ca-ended, on three control plane nodes and two workers",
  controlPlanes: 3,
  workers: 2,
  profile: endingIn(5),
  lines: [
    caEnded.lines[0]!,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, HA_TAGS) },
    caEnded.lines[2]!,
  ],
};

const PKI = "/etc/kubernetes/pki";
const SERVERS = "kube-apiserver|kube-controller-manager";
const TAKEN_AWAY = `rm ${PKI}/{ca,etcd/ca,front-proxy-ca}.{crt,key}; crictl stop --timeout 0 $(crictl ps -q --name '${SERVERS}')`;

const THEIR_KEYS_ARE_GONE: Scenario["lines"][number] = {
  title: "The CAs and their keys are taken away, and the servers that hold them are stopped",
  run: async ({ lab }) => {
    await Promise.all(lab.controlPlanes.map((node) => sh(node, TAKEN_AWAY)));
  },
};

/** What a CA that ends costs without its key: `--scenario ca-ended --compare ca-ended-new-cas`. */
export const caEndedNewCas: Scenario = {
  ...caEnded,
  name: "ca-ended-new-cas",
  title: "As ca-ended, and their keys are nowhere to be found: new CAs; the operator follows RUNBOOK.md",
  lines: [
    caEnded.lines[0]!,
    THEIR_KEYS_ARE_GONE,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, NEW_CA_TAGS) },
  ],
};

export const haCaEndedNewCas: Scenario = {
  ...haCaEnded,
  name: "ha-ca-ended-new-cas",
  title: "As ca-ended-new-cas, on three control plane nodes and two workers",
  lines: [
    caEnded.lines[0]!,
    THEIR_KEYS_ARE_GONE,
    {
      title: "etcd is stopped on each, as part 1 says where nothing proves what runs there",
      run: async ({ lab }) => {
        const line = "systemctl stop kubelet; crictl stop --timeout 0 $(crictl ps -q --name '^etcd$')";
        await Promise.all(lab.controlPlanes.map((node) => sh(node, line)));
      },
    },
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, HA_NEW_CA_TAGS) },
  ],
};

/** Keyed by scene, as two scenes are played if one is compared. */
const kept = new WeakMap<Scene["lab"], ReadonlyMap<string, string>>();

/** The certificates that the CAs have before they are renewed, by the names of the rows. */
export async function keepCas(scene: Scene): Promise<ReadonlyMap<string, string>> {
  const texts = () =>
    Promise.all(CAS.map(async (row) => [row.name, await readCa(scene, row.file, 0)] as const));
  const before = kept.get(scene.lab) ?? new Map(await texts());
  kept.set(scene.lab, before);
  return before;
}

/**
 * `late`: seconds until somebody comes. Nobody does within a minute: a kubelet that was heard so shortly before is
 * watched for 25 s before its name is given away (shared/workers/deciding.ts).
 */
export async function theyExpire(scene: Scene, { late = 70 } = {}) {
  const before = await keepCas(scene);
  const end = Math.max(...[...before.values()].map((pem) => certInfo(pem).notAfter.getTime()));
  if (end < Date.now())
    throw new Error("the CAs had expired before the cluster was built: give them more minutes");
  await sayAndWait(scene, "the CAs to expire", () => Date.now() > end + late * 1000, {
    seconds: 900,
    hint: "openssl x509 -noout -enddate",
  });
  startClock(scene);
  note(scene, "the CAs have expired");
}

export function readCa({ lab }: Scene, file: string, index: number): Promise<string> {
  return Bun.file(lab.controlPlanes[index]!.path(`${lab.profile.certificatesDir}/${file}.crt`)).text();
}

/** Each control plane node has made the same certificate of the old key. */
export async function compareCas(scene: Scene) {
  const before = await keepCas(scene);
  for (const row of CAS) {
    const now = await Promise.all(scene.lab.controlPlanes.map((_, index) => readCa(scene, row.file, index)));
    const [was, is] = [before.get(row.name)!, now[0]!].map((pem) => certInfo(pem));
    const ok =
      new Set(now).size === 1 && is!.publicKeyHash === was!.publicKeyHash && is!.notAfter > new Date();
    const detail = `until ${is!.notAfter.toISOString()}, ${new Set(now).size} different`;
    scene.checks.push({ name: `${row.file}.crt is renewed with its own key, alike everywhere`, ok, detail });
  }
}
