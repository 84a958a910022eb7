/**
 * Texts that make a regular expression slow if it has two loops over the same letters. Reads the pattern just well
 * enough: which letters it tells apart, and a text that leads to each of its loops.
 */

interface Part {
  /** One letter, as a pattern of its own; "" where none is taken. */
  letter: string;
  /** The ways on, each a sequence: of a group. */
  ways: Part[][];
  /** How often it stands there at least and at most. */
  least: number;
  most: number;
  /** A look behind takes its letters before the place, any other look takes none. */
  look: "" | "ahead" | "behind" | "not";
}

/** A quantifier that repeats so often is a loop. */
const LOOP = 8;

/** Letters of which a pattern may know some: ASCII, and one that is none. */
const LETTERS = [...Array.from({ length: 128 }, (_, code) => String.fromCharCode(code)), "\u00e9"];

/** A letter that few patterns take: at the end of a run it makes them fail. */
const NONE = "\u0001";

/** What a text is made of: `unit` until it is as long as wanted. */
export interface SlowText {
  prefix: string;
  unit: string;
  suffix: string;
}

/** The text, of about so many letters, in one piece. */
export function asText({ prefix, unit, suffix }: SlowText, length: number): string {
  const text = prefix + unit.repeat(Math.ceil(length / unit.length)) + suffix;
  return Buffer.from(text, "latin1").toString("latin1");
}

export function slowTexts(pattern: RegExp): SlowText[] {
  const sequence = parsed(pattern.source);
  const parts = allOf(sequence);
  const classes = [...new Set(parts.map(({ letter }) => letter).filter(Boolean))];
  const letters = toldApart(classes, pattern.flags);
  const loops = parts.filter(({ most }) => most >= LOOP);
  const looped = classesIn(loops);
  const inLoops = letters.filter((letter) => looped.some((one) => takes(one, letter, pattern.flags)));
  const pairs = inLoops.flatMap((one, i) => inLoops.slice(i + 1).map((other) => one + other));
  const first = (letter: string) => letters.find((one) => takes(letter, one, pattern.flags)) ?? "";
  const before = [...new Set(["", ...loops.map((loop) => textBefore(sequence, loop, first))])];
  const whole = shortest(sequence, first);
  const ends = letters.map((unit) => ({ prefix: "", unit, suffix: "\n" }));
  const runs = before.flatMap((prefix) =>
    [...letters, ...pairs].map((unit) => ({ prefix, unit, suffix: NONE })),
  );
  const begun = new Set(
    before.flatMap((one) =>
      ["", ...inLoops, ...inLoops.map((letter) => letter.repeat(40))].map((letters) => one + letters),
    ),
  );
  const units = [...begun, whole.slice(0, -1)]
    .filter(Boolean)
    .flatMap((unit) =>
      ["", "\n", " "].map((between) => ({ prefix: "", unit: unit + between, suffix: NONE })),
    );
  return [...ends, ...runs, ...units];
}

function classesIn(parts: readonly Part[]): string[] {
  return [
    ...new Set(
      allOf(parts)
        .map(({ letter }) => letter)
        .filter(Boolean),
    ),
  ];
}

/** One letter of each kind: two that no class of the pattern tells apart are the same to it. */
function toldApart(classes: readonly string[], flags: string): string[] {
  const kinds = new Map<string, string>();
  for (const letter of LETTERS) {
    const kind = classes.map((one) => (takes(one, letter, flags) ? 1 : 0)).join("");
    const known = kinds.get(kind);
    // rather one that can be read, and a blank or line break for itself
    if (known === undefined || (/\w/.test(letter) && !/[\w\s]/.test(known))) kinds.set(kind, letter);
  }
  return [...new Set([...kinds.values(), "\n", " "])];
}

const known = new Map<string, RegExp>();

function takes(letter: string, text: string, flags: string): boolean {
  const key = `${letter}/${flags}`;
  const pattern = known.get(key) ?? new RegExp(`^(?:${letter})$`, flags.replace(/[gym]/g, ""));
  known.set(key, pattern);
  return pattern.test(text);
}

function allOf(sequence: readonly Part[]): Part[] {
  return sequence.flatMap((part) => [part, ...part.ways.flatMap(allOf)]);
}

/** The shortest text that a sequence takes, but for its looks. */
function shortest(sequence: readonly Part[], first: (letter: string) => string): string {
  return sequence.map((part) => once(part, first).repeat(part.least)).join("");
}

function once({ letter, ways, look }: Part, first: (letter: string) => string): string {
  if (letter) return first(letter);
  if (look === "ahead" || look === "not") return "";
  return ways.map((way) => shortest(way, first)).sort((a, b) => a.length - b.length)[0] ?? "";
}

/** The text that leads to a part. */
function textBefore(sequence: readonly Part[], wanted: Part, first: (letter: string) => string): string {
  const at = sequence.findIndex((part) => part === wanted || allOf(part.ways.flat()).includes(wanted));
  if (at < 0) return "";
  const before = shortest(sequence.slice(0, at), first);
  const way = sequence[at]!.ways.find((one) => allOf(one).includes(wanted));
  return way ? before + textBefore(way, wanted, first) : before;
}

/** What stands at one place: a class, an escape, the beginning of a group, or any one letter. */
const TOKEN =
  /\[(?:\\.|[^\]\\])*\]|\\(?:u[\da-f]{4}|x[\da-f]{2}|c[A-Z]|k<\w+>|.)|\((?:\?(?:<?[=!]|:|<\w+>))?|\{\d+(?:,\d*)?\}|[\s\S]/gi;

function parsed(source: string): Part[] {
  const tokens = source.match(TOKEN) ?? [];
  let at = 0;
  const ways = (): Part[][] => {
    const all: Part[][] = [[]];
    for (; at < tokens.length && tokens[at] !== ")"; at++) {
      const token = tokens[at]!;
      if (token === "|") all.push([]);
      else all.at(-1)!.push(part(token));
    }
    return all;
  };
  const part = (token: string): Part => {
    const one: Part = { letter: "", ways: [], least: 1, most: 1, look: "" };
    if (token.startsWith("(")) {
      at++;
      one.look = token.includes("!") ? "not" : token === "(?=" ? "ahead" : token === "(?<=" ? "behind" : "";
      one.ways = ways();
    } else if (!/^(?:[$^]|\\[bB\d]|\\k.*)$/.test(token)) one.letter = token;
    return repeated(one);
  };
  const repeated = (one: Part): Part => {
    const times = /^(?:([*+?])|\{(\d+)(,?)(\d*)\})$/.exec(tokens[at + 1] ?? "");
    if (!times) return one;
    at++;
    if (tokens[at + 1] === "?") at++;
    const [, sign, least, comma, most] = times;
    if (sign)
      return { ...one, least: sign === "+" ? 1 : 0, most: sign === "?" ? 1 : Number.POSITIVE_INFINITY };
    const highest = comma ? Number(most || Number.POSITIVE_INFINITY) : Number(least);
    return { ...one, least: Number(least), most: highest };
  };
  return [{ letter: "", ways: ways(), least: 1, most: 1, look: "" }];
}
