/**
 * What the lab is made of: every program with its Go module and version.
 *
 * Each build is a wrapper module that requires `module` at `version` and compiles `packages`; see
 * go-build.ts.
 */
export type GoBuild = {
  name: string;
  module: string;
  version: string;
  /**
   * Import path of each main package; the program is called after its last element, unless that is a version
   * such as v3.
   */
  packages: readonly string[];
  ldflags?: string;
  /** Build tags, separated by commas. */
  tags?: string;
  /**
   * k8s.io/kubernetes only: its staging modules are published as v0.MINOR.PATCH and take the place of
   * `./staging`.
   */
  stagingVersion?: string;
  /**
   * The module's own replace lines hold where they name a version; these hold in their place, and beside
   * them: module → version.
   */
  replaces?: Record<string, string>;
  /**
   * Libraries that Kubernetes has, too, are taken in its versions, so that they are compiled once; but for
   * these modules, and those below them.
   */
  librariesOfKubernetes?: { but: readonly string[] };
  /** A file of ours, in place of the module's own main package: the package is `lab/source/NAME`. */
  main?: string;
  /** Files of the module that stand beside the programs. */
  files?: readonly string[];
};

/** `KUBERNETES=v1.37.2 npm run rehearse` builds the lab of another release; etcd's follows from it. */
export const KUBERNETES = process.env.KUBERNETES || "v1.34.4";
const MINOR = Number(KUBERNETES.split(".")[1]);

/**
 * The release whose libraries the other programs are compiled with, whatever release the lab has: with these
 * it was tried.
 */
export const LIBRARIES_OF = "v1.34.4";

/**
 * Checks of kubeadm that this lab fails, and no node would: before 1.34 one writes a URL that Go refuses to parse since
 * 1.25.2 (CVE-2025-47912), with which those releases were not built; since 1.35 one refuses the cgroups v1 that this
 * machine may have.
 */
export const FAILS_IN_THE_LAB = MINOR < 34 ? "HTTPProxyCIDR" : MINOR > 34 ? "SystemVerification" : undefined;

/**
 * `KUBELET_SERVING=self npm run rehearse`: kubelets sign their serving certificates themselves, as kubeadm
 * has it by default.
 */
export const SERVING_BY_CA = process.env.KUBELET_SERVING !== "self";

/** `CONTAINERD=v1.7.35 npm run rehearse`: the runtime that many clusters still have. */
export const CONTAINERD = process.env.CONTAINERD || "v2.2.9";

export const KUBERNETES_PROGRAMS = [
  "kubeadm",
  "kubelet",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kube-proxy",
  "kubectl",
] as const;

/** Their image names are another matter: those are what `kubeadm config images list` says. */
export const OTHERS: readonly GoBuild[] = [
  containerdBuild(CONTAINERD),
  {
    name: "crictl",
    module: "sigs.k8s.io/cri-tools",
    version: "v1.34.0",
    packages: ["sigs.k8s.io/cri-tools/cmd/crictl"],
    ldflags: "-X sigs.k8s.io/cri-tools/pkg/version.Version=v1.34.0",
    librariesOfKubernetes: { but: [] },
  },
  {
    // Its images are called v1.12.1 by kubeadm; that one does not compile with the client library of 1.34.
    ...{ name: "coredns", module: "github.com/coredns/coredns", version: "v1.12.4" },
    packages: ["lab/source/coredns"],
    main: "coredns.go",
    librariesOfKubernetes: { but: [] },
  },
  {
    name: "metrics-server",
    module: "sigs.k8s.io/metrics-server",
    version: "v0.8.0",
    packages: ["sigs.k8s.io/metrics-server/cmd/metrics-server"],
    librariesOfKubernetes: { but: [] },
  },
];

function containerdBuild(version: string): GoBuild {
  const isOld = version.startsWith("v1.");
  const module = isOld ? "github.com/containerd/containerd" : "github.com/containerd/containerd/v2";
  return {
    ...{ name: "containerd", module, version },
    packages: ["containerd", "containerd-shim-runc-v2", "ctr"].map((program) => `${module}/cmd/${program}`),
    ldflags: `-X ${module}/version.Version=${version}`,
    ...(isOld
      ? {}
      : {
          librariesOfKubernetes: {
            but: ["github.com/containerd", "github.com/opencontainers", "github.com/cyphar"],
          },
        }),
  };
}

/** etcd in the version that kubeadm asks for, by the name of its image: "registry.k8s.io/etcd:3.6.5-0". */
export function etcdBuild(image: string, name: "etcd" | "etcdutl" = "etcd"): GoBuild {
  const version = `v${image.split(":").at(-1)!.split("-")[0]}`;
  const module = `go.etcd.io/etcd/${name === "etcd" ? "server" : name}/v3`;
  // An older one knows none of these libraries' versions.
  const libraries = version.startsWith("v3.6.") ? { librariesOfKubernetes: { but: ["go.etcd.io"] } } : {};
  return { name, module, version, packages: [module], ...libraries };
}

/** bbolt's own program, with which people repair etcd's database. */
export const BBOLT_BUILD: GoBuild = {
  ...{ name: "bbolt", module: "go.etcd.io/bbolt", version: "v1.4.3" },
  packages: ["go.etcd.io/bbolt/cmd/bbolt"],
};

/** Builds for `programs` of Kubernetes at `version`, such as v1.34.4. */
export function kubernetesBuild(version: string, programs: readonly string[]): GoBuild {
  const [, minor, patch] = version.split(".");
  const stamp = "-X k8s.io/component-base/version";
  return {
    name: programs.length === 1 ? programs[0]! : "kubernetes",
    module: "k8s.io/kubernetes",
    version,
    packages: programs.map((program) => `k8s.io/kubernetes/cmd/${program}`),
    ldflags: `${stamp}.gitVersion=${version} ${stamp}.gitMajor=1 ${stamp}.gitMinor=${minor} ${stamp}.gitTreeState=clean`,
    // Up to 1.30 the cloud providers' old code is compiled in, unless this tag leaves it out; its module is
    // not published everywhere.
    ...(Number(minor) < 31 ? { tags: "providerless" } : {}),
    stagingVersion: `v0.${minor}.${patch}`,
  };
}
