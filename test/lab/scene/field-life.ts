/**
 * What a cluster as the field has it does before and after a disaster: a CI job with an old token,
 * cert-manager.
 */
import { legacyTokenSigner } from "../../../shared/pki/sa-keys.ts";
import { newKeyOf } from "../../pretend/old-keys.ts";
import { kubectl, kubectlAgain } from "../machine/machine.ts";
import { countValid } from "../report/verdict.ts";
import { cutPower, powerOn } from "./power.ts";
import { controlPlaneSamples, note, type Scenario, type Scene, sayAndWait } from "./scene.ts";

type Line = Scenario["lines"][number];

/**
 * The service-account key from before the last rotation. Only the API servers know its public half, and only
 * by their flag.
 */
let earlier: ReturnType<typeof newKeyOf> | undefined;

export function earlierKey(): string {
  earlier ??= newKeyOf("RSA-2048");
  return earlier.pub;
}

const [NAMESPACE, ACCOUNT, SECRET] = ["shop", "asker", "deployer-token"];

async function must(scene: Scene, args: string[], object?: object): Promise<string> {
  const { exitCode, stdout, stderr } = await kubectlAgain(scene.lab, args, object && JSON.stringify(object));
  if (exitCode !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr.trim()}`);
  return stdout.trim();
}

let token = "";

const tokenOfEarlierKey: Line = {
  title: "A CI job has a token that the earlier service-account key signed",
  async run(scene) {
    const uid = await must(scene, [
      "-n",
      NAMESPACE,
      "get",
      "serviceaccount",
      ACCOUNT,
      "-o",
      "jsonpath={.metadata.uid}",
    ]);
    const sign = await legacyTokenSigner(earlier!.key);
    token = await sign({
      namespace: NAMESPACE,
      secretName: SECRET,
      serviceAccountName: ACCOUNT,
      serviceAccountUid: uid,
    });
    await must(scene, ["create", "-f", "-"], {
      apiVersion: "v1",
      kind: "Secret",
      type: "kubernetes.io/service-account-token",
      metadata: {
        name: SECRET,
        namespace: NAMESPACE,
        annotations: {
          "kubernetes.io/service-account.name": ACCOUNT,
          "kubernetes.io/service-account.uid": uid,
        },
      },
      data: {
        token: base64(token),
        namespace: base64(NAMESPACE),
        "ca.crt": base64(
          await must(scene, ["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"]),
        ),
      },
    });
    scene.checks.push({
      name: "the API accepts the earlier key's token before the disaster",
      ok: (await countValid(scene.lab, [token])) === 1,
      detail: SECRET,
    });
  },
};

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

function certificate(name: string) {
  const kind = "cert-manager.io/v1";
  const metadata = { name, namespace: NAMESPACE };
  return {
    apiVersion: "v1",
    kind: "List",
    items: [
      { apiVersion: kind, kind: "Issuer", metadata, spec: { selfSigned: {} } },
      {
        apiVersion: kind,
        kind: "Certificate",
        metadata,
        spec: { secretName: `${name}-tls`, dnsNames: ["shop.example"], issuerRef: { name } },
      },
    ],
  };
}

/** Through both webhooks, cainjector's CA and the controller. */
async function certManagerWorks(scene: Scene, name: string) {
  const began = Date.now();
  const hint = "kubectl -n cert-manager logs deploy/cert-manager-webhook, with --keep";
  const accepted = async () =>
    (await kubectl(scene.lab, ["apply", "-f", "-"], JSON.stringify(certificate(name)))).exitCode === 0;
  await sayAndWait(scene, "cert-manager's webhooks to accept a Certificate", accepted, {
    seconds: 120,
    hint,
  });
  const issued = async () =>
    (
      await kubectl(scene.lab, [
        "-n",
        NAMESPACE,
        "wait",
        "certificate",
        name,
        "--for=condition=Ready",
        "--timeout=1s",
      ])
    ).exitCode === 0;
  await sayAndWait(scene, "cert-manager to issue it", issued, { seconds: 120, hint });
  const took = `${((Date.now() - began) / 1000).toFixed(1)} s`;
  note(scene, `cert-manager issues the certificate "${name}"`, took);
  scene.checks.push({ name: `cert-manager issues the certificate "${name}"`, ok: true, detail: took });
}

/** A worker that is switched off before the disaster, and on again after part 4. */
export function offWorker(name: string): Record<"off" | "on", Line> {
  return {
    off: {
      title: `${name} is switched off, for another reason`,
      async run(scene) {
        await cutPower(
          scene,
          scene.lab.nodes.filter((node) => node.name === name),
        );
        scene.away.push(name);
        const isNotReady = () =>
          controlPlaneSamples(scene)[0]!
            .findLast(({ nodes }) => nodes)
            ?.nodes?.some((node) => node.name === name && !node.ready);
        await sayAndWait(scene, `the API to say that ${name} is not Ready`, isNotReady, {
          seconds: 120,
          hint: "kubectl get nodes, with --keep",
        });
      },
    },
    on: {
      title: `${name} is switched on`,
      run: (scene) =>
        powerOn(
          scene,
          scene.lab.nodes.filter((node) => node.name === name),
        ),
    },
  };
}

export const fieldLife = {
  tokenOfEarlierKey,
  certificateBefore: {
    title: "cert-manager issues a certificate",
    run: (scene) => certManagerWorks(scene, "before"),
  },
  certificateAfter: {
    title: "cert-manager issues one more",
    run: (scene) => certManagerWorks(scene, "after"),
  },
  tokenIsValid: {
    title: "The CI job goes on with its token",
    async run(scene) {
      const secret = await must(scene, [
        "-n",
        NAMESPACE,
        "get",
        "secret",
        SECRET,
        "-o",
        "jsonpath={.data.token}",
      ]);
      const [valid, same] = [(await countValid(scene.lab, [token])) === 1, secret === base64(token)];
      scene.checks.push({
        name: "the earlier key's token is valid, and nobody replaced it",
        ok: valid && same,
        detail: `valid: ${valid}, the same: ${same}`,
      });
    },
  },
} satisfies Record<string, Line>;
