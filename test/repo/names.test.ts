/**
 * Names that a strict reader could not read (issue 58): what they held has a noun now, one for each type. They do not
 * come back as exports, parameters, properties or values of scripts, shared and tools.
 */
import { expect, test } from "bun:test";
import { blank, exportsOf, kitSources, lineOf, type Source } from "./sources.ts";

const sources = await kitSources();

/** Participles that say nothing of a value, and types that were called so. */
const VALUES = "known|seen|said|isMeant";
const TYPES = "Known|Seen|Said|Looked|Sight|Gone|Shows|Named";

/** Exported functions and types with another name now. */
const EXPORTS = new Set(
  `Survivor mayName withOpened withItsPlace proveMembers part1 withoutKeys apiServerEnd witnessesOf silentSinceCaEnded
   choiceOf refuseNoMember keepSaid leftOut writeBeside textsOfRoot markLine refusePairs foldersHere withLostEnv Word
   asWords writesClear requestLine takesClient gatherLines carryLines meetLine count newestOf expiredHolders broughtFor
   changeOf FOR_GOOD leadsInFull continueOthers stillNeeded ensureOptions leaves words saySilent nodesReturn unserved
   Ready AGAIN seen known said isMeant hear nothingTyped asSaid saidAt takeWords takeWordsOf keepOwn keepWords
   keepPlaces openWords endWords endWordsOf wordsHere wordsOf wordOf withWord Spoken WordKind WordOption
   WORD_OPTIONS withWords saidBefore onAgain takenOut afterTokenKey afterEtcd afterControlPlane
   afterIdleOpen afterClose afterTokens afterRetire wayFrom shownAt shownBy heardAt standIn tellMembers
   shownCopy firstShown leftToAsk keepShown comingHere ranHere turnedAway noUser EVEN_IF guestsOf
   lateByWitnesses madeFiles thereWhen namerOf strangeNamed WithoutData unreadRows mostOf leftHere toldBy
   notKept sayLeftBehind notInIt tellCarry tellKept asItRan shownWord takeAway endWaiting full saidSince
   sayLeftNamed BUMP untold beginToTell countOnAgain reallyOut comeBack noteOf KeptFrom leftOver reportedOf
   NEW_ONE refuseNoPart1 withFlagsBack runsIn Brings hostsSaid saidOfFolder saidIn nextOf notOfToday
   showsToday todaysSaPub takeUpSaKey seenNodes keepRan lookedAt textBelow namesBelow wayTo rivals
   refuseRivals byBelief whatStopped sayLeft calledByApi firstOf inArrows withWhatComes holdHere asIfGone
   todosOf mayHaveMade`.split(/\s+/),
);

/** A name as it is declared: a value, a parameter, a property of a type, or what is taken out of an object. */
const DECLARED = new RegExp(
  `\\b(?:const|let|using|function\\*?) (?:${VALUES})\\b|[({[,;]\\s*(?:readonly |private |\\.\\.\\.)*(?:${VALUES})(?=\\s*\\??:)|^\\s*(?:readonly |private )*(?:${VALUES})(?=\\??: )|\\b(?:const|let) [{[][^=;]*\\b(?:${VALUES})\\b(?=[^=;]*[}\\]] =)|\\b(?:interface|type|class) (?:${TYPES})\\b`,
  "gm",
);

/** `path name`, with the reason why it is right there. */
const STAYS: Record<string, string> = {
  "shared/options.ts seen": "a Set of the options that were seen, in one loop",
  "shared/node/words.ts said": "a field of the file on nodes, which an older kit has written",
  "shared/plan/note.ts seen": "the option --seen",
  "shared/plan/plan-answer.ts said": "a field of the answer that programs read",
  "shared/plan/make-plan.ts said": "a field of the answer that programs read",
  "shared/plan/observations.ts said": "a field of the answer that programs read",
  "shared/plan/plan-facts.ts seen": "the option --seen",
  "shared/plan/plan-steps.ts seen": "the option --seen",
  "shared/follow/look-around.ts seen": "the option --seen",
  "scripts/plan.ts seen": "the option --seen",
};

function oldNames({ path, text }: Source): string[] {
  return [...blank(text, { strings: true }).matchAll(DECLARED)].map((match) => {
    const [name] = new RegExp(`\\b(?:${VALUES}|${TYPES})\\b`).exec(match[0])!;
    return `${path} ${name} ${lineOf(text, match.index + match[0].lastIndexOf(name))}`;
  });
}

test("a parameter, a property, a value and a type are found; a word in a string or a comment is not", () => {
  const text = `const known = 1;\nfunction f(said: string, { known }: { known?: string }) {}\ninterface Seen {\n  seen: string[];\n}\nconst { a, seen } = f("known: x");\n// known: a\nf({ a: x.known });\nconst has = known ? 1 : said;\n`;
  expect(oldNames({ path: "a", text }).map((one) => one.slice(2))).toEqual([
    ...["known 1", "said 2", "known 2", "Seen 3", "seen 4", "seen 6"],
  ]);
});

test("known, seen, said, isMeant and Looked are no names", () => {
  const found = sources.flatMap(oldNames);
  expect(found.filter((one) => !STAYS[one.split(" ").slice(0, 2).join(" ")])).toEqual([]);
  const kept = new Set(found.map((one) => one.split(" ").slice(0, 2).join(" ")));
  expect(Object.keys(STAYS).filter((one) => !kept.has(one))).toEqual([]);
});

test("no export has the name that a reader could not read", () => {
  const found = sources.flatMap((one) =>
    exportsOf(one).flatMap((name) => (EXPORTS.has(name) ? [`${one.path} ${name}`] : [])),
  );
  expect(found).toEqual([]);
});
