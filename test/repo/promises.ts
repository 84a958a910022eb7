/**
 * What README.md, RUNBOOK.md and RUNBOOK-MORE.md promise, each in their words, and who holds it: a test by
 * words of its title, `scenario NAME` of the lab, or one of the lab's checks. A new promise is a row here;
 * promises.test.ts is red where the words, the test or the scenario are gone.
 */
export interface Promised {
  page: "README.md" | "RUNBOOK.md" | "RUNBOOK-MORE.md" | "CONTRIBUTING.md";
  /** As it stands there, line ends apart. */
  words: string;
  /** "FILE: words of the title", "scenario NAME", or "check FILE". */
  held: string[];
}

const readme = (words: string, ...held: string[]): Promised => ({ page: "README.md", words, held });
const contributing = (words: string, ...held: string[]): Promised => ({
  page: "CONTRIBUTING.md",
  words,
  held,
});
const runbook = (words: string, ...held: string[]): Promised => ({ page: "RUNBOOK.md", words, held });
const more = (words: string, ...held: string[]): Promised => ({ page: "RUNBOOK-MORE.md", words, held });

// biome-ignore format: a table
export const PROMISES: Promised[] = [
  readme("Your workloads keep running: no container is restarted, and no pod is evicted, before you run the step that does it.", "scenario all-lost", "scenario ha-all-lost", "test/scripts/no-eviction.test.ts: stays reduced for it"),
  readme("**Only expired, and no workers? Three lines**", "scenario expired", "scenario ha-expired", "test/scripts/plan.test.ts: a plan where all certificates have expired is a handful of lines"),
  readme("kubeadm does not renew the kubelets' certificates", "scenario expired-half-renewed", "test/scripts/plan.test.ts: a plan where all certificates have expired is a handful of lines"),
  runbook("Workers have their commands, too.", "scenario expired-half-renewed", "test/scripts/plan.test.ts: a plan where all certificates have expired is a handful of lines"),
  readme("The same command again continues, from any machine", "test/shared/follow/follow-plan.test.ts: and it goes on where it was", "scenario by-repair"),
  readme("You decide by numbers", "test/shared/follow/follow-plan.test.ts: four numbers, and every step of the plan is typed", "scenario by-repair-one"),
  readme("you have only the node, and no laptop", "scenario by-repair-here", "scenario by-repair-here-worker", "test/scripts/repair-here.test.ts: one command there repairs it"),
  readme("If one is missing, the command ends with 3 and names it", "test/shared/follow/follow-plan.test.ts: nobody is there, and nothing is said"),
  runbook("It has only the commands that your cluster and your damage need, in order, each with the node to type it on.", "scenario by-repair", "test/scripts/plan.test.ts: every line of the repair, in order, with names and addresses", "scenario all-lost"),
  runbook("a page with boxes to tick and buttons that copy", "check plan-page.ts", "test/scripts/plan.test.ts: plan FILE writes that file, and no other"),
  runbook("(an expired CA is renewed with its own key)", "scenario ca-ended", "test/shared/pki/lost-keys.test.ts: is renewed with its own key"),
  runbook("| log in as a user with sudo | `--user ubuntu` |", "scenario by-repair-sudo", "test/scripts/plan-user.test.ts: all is done by sudo"),
  contributing("They read the old cluster from etcd's data directory while etcd is off: names, addresses, flags and hand edits.", "check etcd.ts", "test/shared/manifests/from-mirror-pod.test.ts: ", "test/scripts/names-by-hand.test.ts: they stay under a new CA"),
  contributing("prove each step before the next", "test/typed/parts.test.ts: etcd and the API come back", "test/scripts/01-etcd.test.ts: does not take a healthy but empty etcd for the old one", "test/scripts/02-control-plane.test.ts: stops at an API that has none of them"),
  contributing("You type no facts of the cluster.", "scenario all-lost", "test/typed/parts.test.ts: part 2: the API comes back"),
  readme("if etcd's data is gone with every snapshot and disk", "test/typed/restore.test.ts: a snapshot becomes etcd's data", "test/typed/refusals.test.ts: etcd's data is gone"),
  readme("if the cluster is not kubeadm's", "test/scripts/other-distributions.test.ts: ", "test/typed/place.test.ts: no node of kubeadm's"),
  readme("if the kubelet runs Docker by itself (dockershim, 1.23 and older).", "test/scripts/preflight.test.ts: with dockershim it is refused by name"),
  contributing("**It looks for the old keys before it makes new ones.**", "test/typed/00-salvage.test.ts: 01-etcd --new-cas refuses where a process that it would stop still holds a lost key", "test/shared/assess/assess.test.ts: deep: memory holds the keys"),
  contributing("The memory of a controller-manager that still runs has `ca.key` and `sa.key` (0.2 s).", "scenario pki-lost-alive", "check process-memory.ts", "test/shared/salvage/salvage.test.ts: all is lost, and memory has two keys"),
  contributing("kubeadm's own Secret has all shared keys.", "test/typed/00-salvage.test.ts: opens kubeadm-certs with the certificate key"),
  contributing("The disk's free blocks have deleted keys.", "scenario undelete", "check disks.ts", "test/shared/salvage/carve.test.ts: "),
  contributing("A public key that the cluster already has proves each key.", "test/scripts/00-salvage-hostile.test.ts: a planted pair of etcd's CA is not put to use", "test/shared/pki/lost-keys.test.ts: a key that signed none of the pods' tokens"),
  contributing("only workers whose own certificates are gone or expired join again, no running pod restarts, every token stays valid", "scenario pki-lost-alive", "scenario undelete", "test/scripts/plan.test.ts: no running pod restarts"),
  contributing("`00-token-key` computes its public half from two old tokens", "check old-tokens.ts", "scenario old-tokens", "test/typed/00-token-key.test.ts: computes the key of kube-proxy's tokens"),
  contributing("It trusts root's files on the node", "test/shared/evidence/sources.test.ts: every row is played", "scenario hostile", "scenario hostile-alive"),
  contributing("A key that nothing proves is moved aside with its origin, and never used. The script prints the command that would use them.", "test/scripts/00-salvage-hostile.test.ts: it is kept in the rescue folder, named, and taken with --kid alone", "test/scripts/hostile-mirror-pods.test.ts: names the mirror pods that nothing proves"),
  contributing("It repairs the node in memory, as if `/etc/kubernetes` were deleted and no old key were found.", "test/scripts/drill.test.ts: all of it would come back", "test/shared/drill/drill.test.ts: all of it would come back"),
  contributing("Exit code 0: all of it would come back.", "test/shared/drill/drill.test.ts: all of it would come back"),
  readme("The two lines stop the kubelet, and pause this cluster's controller-manager.", "test/scripts/by-static-pod.test.ts: pauses the static pod's controller-manager, and nobody else's", "scenario hostile-alive"),
  runbook("The kit is one folder with its own Bun, in the memory of each node. Nothing is installed or fetched there.", "check kit.ts", "test/kit/kit.test.ts: the kit has the packages that run"),
  contributing("each with `--help`, and with `--dry-run` if it writes", "test/repo/exit-codes.test.ts: explains every code", "test/repo/promises.test.ts: takes --dry-run if it writes"),
  contributing("Exit codes: 0 done or well, 1 stopped or could not look, 2 something is bad or still lost, 3 refused, 4 locked by another run, 64 a word of the command line is wrong, 130 ended by a signal.", "test/repo/exit-codes.test.ts: ", "test/scripts/wrong-hands-machine.test.ts: the second is kept out"),
  contributing("00-assess, plan, drill, 05-verify and report read only: they write no file but one that you name.", "test/scripts/05-verify-watch.test.ts: writes one file that others may read, whole, and nothing else", "test/kit/kit-writes-nothing.test.ts: changes no file", "test/scripts/plan.test.ts: plan FILE writes that file, and no other"),
  contributing("`fleet.yaml` runs parts 0 to 3 on many nodes", "scenario fleet", "check playbook.ts", "test/repo/fleet.test.ts: "),
  runbook("Kubernetes 1.29 to 1.37 (rehearsed on each)", "scenario all-lost", "test/scripts/preflight.test.ts: a release before 1.29 is said to be not rehearsed"),
  runbook("no container restarts before part 4, nothing is evicted, Services keep their endpoints", "scenario all-lost", "scenario field", "test/scripts/no-eviction.test.ts: starts no controller-manager in full"),
  runbook("every pod with a mounted service-account token restarts once in part 4, by its own rolling update", "scenario busy", "test/typed/parts.test.ts: the stale pods and the token are renewed"),
  runbook("The scripts name those that are lost. Only the disk or a backup can bring them back.", "scenario hardened-files-lost", "test/scripts/lost-files.test.ts: names each lost file with what needs it", "test/scripts/lost-files.test.ts: 00-salvage files brings back"),
  runbook("Each run that changes something leaves a transcript in its folder `runs`", "test/scripts/kept-runs.test.ts: keeps what it printed, its steps and each file"),
  runbook("No key and no token is in them.", "test/scripts/kept-runs.test.ts: a secret in a transcript would be seen, of each kind", "test/shared/redact.test.ts: looks like a secret"),
  runbook("Do not put the kit on the disk: its free blocks still hold the deleted files", "test/kit/kit-folder.test.ts: writes no block of a disk", "test/kit/bunw.test.ts: the kit writes nothing into the home"),
  runbook("You may repeat it. A reboot empties the folder, and removes your own files in it, too.", "test/kit/kit-folder.test.ts: may be repeated: the operator's files stay"),
  more("with the disks of more than half of the members no acknowledged write is lost", "check survivor.ts", "test/shared/restore/lost-members-data.test.ts: with a quorum nothing acknowledged is lost"),
  more("`--force-new-cluster`, which other instructions have, drops the last acknowledged writes.", "check survivor.ts"),
  more("**The revision is raised by 1,000,000,000**, unless you restore from the disks of more than half of the members. kube-proxy and other clients have already seen later revisions than the snapshot's. Without the higher revision they would miss all changes until the cluster reaches those revisions again.", "check restore.ts"),
  more("So the command accepts the folder `/run/kube-pki-repair` only if root has made it with mode 0700.", "test/kit/kit-folder.test.ts: line refuses %s, shows it, and puts nothing there"),
  more("`./bunw` also refuses files of other users, files that others can write, and files that `SHA256SUMS` does not name.", "test/kit/bunw.test.ts: refuses"),
  more("`./bunw` takes no settings from outside either: no `bunfig.toml`, no `.env`, no `BUN_OPTIONS`", "test/kit/bunw.test.ts: bunw takes no variables out of an .env", "test/kit/bunw.test.ts: the kit names its own settings"),
  more("The scripts refuse a path that you type if another user can decide which file is there.", "test/shared/files/operator-files.test.ts: ", "test/repo/typed-paths.test.ts: says whether it is a path, and for what"),
  more("| 1 etcd | each control plane node, the first one first | safe to repeat |", "test/typed/parts.test.ts: parts 1 and 2: etcd and the API come back, and run again each changes no byte"),
  more("| 2 Control plane | each control plane node | safe to repeat |", "test/typed/parts.test.ts: part 2: the API comes back, and run again changes no byte"),
  more("`03-join` continues where it was stopped, or rolls back by itself", "scenario join-cut-off", "test/typed/parts.test.ts: a join puts every file back", "test/scripts/wrong-hands-signals.test.ts: the kubelet goes on, and the next run waits for it"),
  runbook("*Refused* means: not for this node or cluster, or the names in the line are wrong. Nothing was changed, and the same line is refused again.", "test/typed/place.test.ts: on a worker each says", "test/typed/words.test.ts: a name that cannot be meant"),
  runbook("Only one writing script runs on a node at a time; a second one stops and names the first.", "test/scripts/wrong-hands-machine.test.ts: the second is kept out, the first goes on, and leaves no lock"),
  runbook("Ctrl-C, or an ssh that drops, leaves no half-written file. The script says what stays stopped; run the same line again.", "test/scripts/wrong-hands-signals.test.ts: every file is whole, and the next run keeps them all", "test/soak/cut-points.test.ts: ", "scenario interrupted"),
  runbook("A script prints one sentence before each, and so does `--dry-run`", "test/repo/runbook.test.ts: taken back", "test/typed/parts.test.ts: close --dry-run says what it would do"),
  runbook("until part 3, if the old keys are found: put them into the place of the new ones, and part 1 again", "test/scripts/01-etcd.test.ts: the way back that 01-etcd --new-cas names"),
  runbook("part 2 keeps what a lost control plane node was (`lost-nodes/NODE` in the rescue folder)", "test/scripts/same-machine.test.ts: keeps what a lost control plane node was", "scenario ha-same-machine-back"),
  runbook("mv DIR/sa-old.pub back into its place, and part 2 again", "test/typed/00-token-key.test.ts: the way back of retire"),
  runbook("| `hand-over pack --force` | FILE is overwritten", "test/shared/hand-over/hand-over-refuses.test.ts: to overwrite a file without --force"),
  runbook("While it is paused, it marks no node as NotReady and evicts no pod.", "scenario pki-lost-alive", "test/scripts/no-eviction.test.ts: begins reduced"),
  more("`00-assess` and `05-verify` name every paused process of a pod, with the command that continues it. Parts 1 and 2 continue these processes.", "test/scripts/by-static-pod.test.ts: name a stopped process of kube-system with the line that continues it", "test/scripts/by-static-pod.test.ts: part 2 continues them, too"),
  more("Without etcd's data, `unpack` accepts a bundle for recipients, and its snapshot of etcd, only with `--ca-hash`.", "test/shared/hand-over/hand-over-beside-keys.test.ts: takes a bundle for recipients only with a proof"),
  more("`age -d FILE | tar -t` opens it without this kit", "check age-equal.ts"),
  more("`05-verify` warns while there is no backup, or when the keys have changed since.", "test/shared/verify/verify-here.test.ts: backup"),
  more("a bundle older than the cluster's CA is refused", "test/shared/hand-over/hand-over-beside-keys.test.ts: refuses a foreign bundle and a stale one"),
  more("With `--backup DIR` and `--bundle FILE` you name copies that you keep elsewhere, and the drill checks whether they are still current.", "test/shared/drill/drill.test.ts: the bundle is another one"),
  more("`00-assess` and `05-verify` say on each control plane node what expires in the next 90 days, and which CA expires in the next year.", "test/scripts/05-verify-watch.test.ts: name what expires soon", "scenario ends-soon"),
  more("The file has names and dates, no secret.", "test/shared/checks/metrics.test.ts: ", "scenario watched", "check metrics.ts"),
  more("`unpack` writes those that are missing, all or none", "test/shared/hand-over/hand-over-beside-keys.test.ts: writes nothing where one file cannot be written"),
  more("| `/var/lib/kubelet/config.yaml`, `kubeadm-flags.env` | – | never changed, but", "test/scripts/kubelet-guard.test.ts: goes as far as its kubelet's certificate", "test/typed/parts.test.ts: never changed"),
  readme("the machines have moved to other addresses or names", "scenario moved", "scenario moved-all", "test/typed/move.test.ts: it finds its own addresses"),
  more("no member of etcd is created again", "scenario moved-all", "test/shared/etcd/tell-members.test.ts: what is sent to the old address"),
  more("after `restore`, `plan.ts` prints each command from here to the end", "scenario restored", "scenario ha-restored", "test/typed/restore.test.ts: then the plan unpacks a bundle that lies there"),
  more("The scripts know the earlier members of etcd from `words.json` in the rescue folder, and treat the other members as with `--lost`", "scenario ha-restored", "test/typed/restore.test.ts: every part knows that the other two are lost"),
  more("The member continues alone with every write that it has acknowledged", "scenario survivor", "check survivor.ts"),
  more("# no bundle: part 1 with --new-cas", "scenario restored-new-cas", "test/typed/restore.test.ts: parts 0 and 1 go on from"),
  more("After `rm -rf /etc/kubernetes`, begin with `move.ts`, too.", "scenario moved-lost", "test/typed/move.test.ts: after rm -rf nothing is there to write"),
  more("*`move.ts` refuses* an address in the cluster's own ranges", "test/shared/moved/pairs.test.ts: is refused"),
  more("A dry run or a refusal leaves none", "test/scripts/kept-runs.test.ts: a dry run, a refusal, a run that finds nothing to do"),
  more("The controller-manager of this node still starts reduced, because part 2 on the other node may be about to stop the one that leads.", "test/scripts/no-eviction.test.ts: part 2 may be about to end it", "test/soak/side-by-side.test.ts: nobody runs in full before all are back"),
  more("it is tainted, and none of its pods is still to be deleted, the controller-manager runs in full without it", "test/scripts/no-eviction.test.ts: where nothing is left to evict"),
  more("So the controllers that taint such nodes and evict their pods stay off until all nodes are back.", "test/scripts/no-eviction.test.ts: leaves it reduced while a worker is away", "test/typed/parts.test.ts: close names a node that does not renew its Lease"),
  more("If you must edit", "test/kit/edit-made.test.ts: part 2 of the edited kit issues a certificate that has it", "test/repo/edit-table.test.ts: "),
];
