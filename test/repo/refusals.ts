/**
 * Every refusal that parts 0 to 4 can end with before they change anything: which function throws it, by references
 * between top-level functions. A reference is no call, so the list is an upper bound.
 */
import { basename } from "node:path";
import { blank, type Source } from "./sources.ts";

interface Piece {
  file: string;
  name: string;
  code: string;
}

const DECLARED = /^(?:export )?(?:async )?(?:function\*?|const|class) (\w+)/;

/** Each top-level declaration, with its code. */
function piecesOf({ path, text }: Source): Piece[] {
  const pieces: Piece[] = [];
  for (const line of blank(text, { strings: false }).split("\n")) {
    const name = DECLARED.exec(line)?.[1];
    if (name) pieces.push({ file: path, name, code: line });
    else if (pieces.length > 0) pieces.at(-1)!.code += `\n${line}`;
  }
  return pieces;
}

/** "peers.ts refuseNewCa" of all that these declarations reach, with theirs; `stop`: files that say what comes next. */
export function reached(
  sources: readonly Source[],
  starts: readonly string[],
  stop: RegExp,
): Map<string, Piece> {
  const all = sources.filter(({ path }) => !stop.test(path)).flatMap(piecesOf);
  const key = ({ file, name }: Piece) => `${basename(file)} ${name}`;
  const own = new Map(all.map((piece) => [key(piece), piece]));
  // no exported word has two meanings: see house-style.test.ts
  const exported = new Map(
    all.filter(({ code }) => code.startsWith("export ")).map((piece) => [piece.name, piece]),
  );
  const found = new Map<string, Piece>();
  const open = starts.map((start) => own.get(start) ?? fail(start));
  for (let piece = open.pop(); piece; piece = open.pop()) {
    if (found.has(key(piece))) continue;
    found.set(key(piece), piece);
    const { file, code } = piece;
    for (const word of new Set(code.match(/\b[A-Za-z_]\w*\b/g))) {
      const next = own.get(`${basename(file)} ${word}`) ?? exported.get(word);
      if (next) open.push(next);
    }
  }
  return found;
}

function fail(start: string): never {
  throw new Error(`${start} is no declaration any more`);
}

export const refuses = ({ code }: Piece) =>
  /\bnew (?:Fail|Refused|Kind|NoAnswer|Spent|UsageError)\(|\bnew \(/.test(code);

interface Where {
  /** The function of the plan, or of 00-assess, that shows it; unset: nobody can know it before. */
  shownBy?: string;
  why: string;
  /** "file.ts name name; …" */
  of: string;
}

/** Where the plan shows each refusal before its first line that stops anything, or why it cannot. */
export const WHERE: Where[] = [
  {
    shownBy: "decisions.ts fileDecisions",
    why: "a decision before the steps: who may have the file, what brings it, what its loss loosens",
    of: "before-part-1.ts sayLostFiles; without-files.ts refuseLost refuseNoChoice; control-plane-node.ts withLostFiles",
  },
  {
    shownBy: "decisions.ts silentDecisions",
    why: "a member that answers nobody is a decision; one that answers has its own part 1 in the plan",
    of: "all-members.ts answerOf",
  },
  {
    shownBy: "aim.ts whereKeysAre",
    why: "who may still have a key is looked at first, and the line names who was; etcd ends on the others by a step",
    of: "other-members.ts lookAtPeers refuseNewCa refuseWhereOthersLive; before-part-1.ts refuseWhileLeaderMayHaveKey refuseUnread refuseWhileMemoryHasKeys",
  },
  {
    shownBy: "look-here.ts refusalsHere",
    why: "the part's own look, as a dry look",
    of: "node-to-repair.ts refuseUnlessMember; work.ts refuseOtherFolder; clock.ts refuseDoubtfulClock; file-system.ts noRoomIn refuseFixed; file-tree.ts refuseNoRoom; systemctl-kubelet.ts unfitKubelet cannotJoin losesFlags endedInConf; preflight.ts missingImages usersKnown olderEtcd preflight; reach-etcd.ts gatewayTrouble; unheard.ts unitSilent; endpoint.ts refuseUndecided; joining-worker.ts joiningTrouble; unheard.ts missingEtcdUser",
  },
  {
    shownBy: "assess.ts assess",
    why: "a row, the verdict, or the course: part 0 of the plan mends it, or there is none",
    of: "actions.ts lostKey; issue-and-start.ts refuseForeignCa; signed-elsewhere.ts refuseExternalCa refuseOwnCertificate; releases.ts refuseDockershim; server-clock.ts wrongClock; node.ts otherName; preflight.ts roomInEtcd; wanted-manifests.ts wantedManifests; from-mirror-pod.ts manifestFromMirrorPod refuseUnknownFields; mirror-pods.ts decodeMirrorPod; on-disk.ts readManifest; kubeconfigs.ts unreadable; certificate.ts parse; examine.ts clusterCa; keys.ts insideOf; command.ts parseQuietly; assess.ts withEndedConf",
  },
  {
    shownBy: "plan.ts main",
    why: "the plan reads the same before it prints anything, and ends with it",
    of: "node.ts readLinks needRoot; kubelet-config.ts kubeletGone noNode; containers.ts crictl; no-etcd-data.ts noControlPlane withoutDataFail; control-plane-node.ts nodelessFail; all-members.ts refuseMembersElsewhere; directory.ts checkFolders explain; etcd-place.ts choose proved refuseLater; cluster.ts need storedConfiguration parsedConfiguration; typed-options.ts refuseUnknownNodes refuseStrangers; yaml.ts readMapping; issue-facts.ts apiAddress hoursOf; addresses.ts firstAddress ipBytes refuseInClear; storage.ts failIfDamaged; stored.ts decodeStored registryPrefix; repair.ts stalePods; started-with.ts systemd; kubelet-drop-ins.ts readDropIn; file-system.ts refuseNoMemory; files.ts prepare readKeptJson renameFile; root.ts failOfFile; root.ts walk; file-tree.ts refuseOthersLink; all-members.ts refuseLiving; unheard.ts refuseNoQuorum askAboutStrangers; sa-keys.ts oldSaKeys",
  },
  {
    shownBy: "plan-facts.ts factsForPlan",
    why: "no line searches a disk that cannot be opened, or is none",
    of: "disk.ts deviceOf mountOf; disk.ts Disk opened",
  },
  {
    why: "a word that was typed wrong: the plan's own lines are RUNBOOK's, held by named-in-texts.test.ts",
    of: "options.ts parseWords; operator-files.ts refusal secretIn; 01-etcd.ts newCasOf; endpoint.ts askedEndpoint; stale-pods.ts refuseBareNames refuseDisorder refuseUnknownNamespace refuseUnknownSkip; look.ts vouchedFor; wanted-keys.ts chosen; old-tokens.ts addFromFile; renew.ts digestIn refuseLost refuseOther",
  },
  {
    shownBy: "etcd-place.ts etcdDataOf",
    why: "etcd on other machines: without its data no plan is made, and it says why",
    of: "living-etcd.ts firstAnswer inMemory refuseOtherCluster whyUnread",
  },
  {
    why: "another run, Ctrl-C, or a server that is silent at that moment",
    of: "kept-run.ts lockedBy; this-run.ts stoppedBy; wait-for.ts answered waitFor; ended-container.ts containerEnd; tell-members.ts ip startRelay; systemctl-kubelet.ts systemctlKubelet; unit-files.ts systemctlEtcd",
  },
  {
    why: "it needs an etcd, or an API, that a step before brings back",
    of: "admin-api.ts adminClient ownApiReady; api-error.ts parseJson orStarting; kube-api.ts KubeApi; all-members.ts noClient proveSameData proveSameKeys refuseSignsOfLife; unheard.ts refuseLearner refuseNeverStarted; own-etcd.ts NO_CLIENT showsNothing; unheard.ts noAnswer; node-status.ts proveNodes refuseDeafLeases; away.ts confirmLeftOut; bootstrap-tokens.ts refuseAutoApproval; cluster-trust.ts ensureAdmins; keys.ts signingKey; restart-order.ts refuseDeadNodes refuseReduced refuseSilent trustHere; renew-tokens.ts refuseHolders retireOldSaKey; full-manager.ts fullControllerManager; tell-members.ts relayMember; root-ca.ts refusalIn waitForRootCa; rollout-status.ts refuseHeld; rollout.ts notBack rollOut stuck; evict.ts neverAllowed; own-etcd.ts refuseOtherData; unit-files.ts refuseOtherCa; client.ts EtcdClient pieceIn; ensure.ts readSigner; wait.ts allBack watchNodesReturn",
  },
  {
    why: "it needs the bundle that a step before makes, and its lock",
    of: "hand-over.ts pack toPack; operators-bundle.ts openBundle; bundle.ts readBundle refused; operators-bundle.ts howToLock keyFor passphraseIn refuseWeak; sealed.ts addIdentity addRecipient damaged readHeader whyNot wrongKey; tar.ts bad; prompt.ts ask askTwice noTerminal; place-keys.ts checkOrigin otherKeys unprovedBundle; no-etcd-data.ts refuseWorker; content.ts refuseOtherCa; pack-etcd.ts etcdHere unproved; pack-etcd.ts openSnapshot",
  },
  {
    why: "a search finds it: the plan's line of part 0 is that search, and it changes nothing before",
    of: "budget.ts Budget; disk.ts endedEarly; found-keys.ts refuseCompetingKeys; wanted-keys.ts generation; keys-in-copies.ts searchFolder tooMany; file-tree.ts isKept; keys-in-copies.ts findKubeadmCerts; look.ts lookForLost; old-tokens.ts tokensOfLastKey nothingShows; processes.ts openMemory; put-back.ts questionOf; keys-in-copies.ts certificateKeyOf decrypt keyBytes",
  },
  {
    why: "only drill and other scripts beside the repair, by a word of the same name",
    of: "drill.ts refuseDamaged; kept-snapshot.ts judgedSnapshot; snapshot-file.ts checkSnapshotFile",
  },
];
