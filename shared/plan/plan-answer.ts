/** The answer of `plan --json`: what `repair` follows. plan-data.ts fills it in. */
import type { Task } from "../facts/course.ts";
import type { okAnswer, StoppedAnswer } from "../json-answer.ts";
import type { Act } from "./act.ts";
import type { DecisionId, Way } from "./decision-ways.ts";
import type { PlanNode } from "./plan-node.ts";

export interface StepData {
  /** "1a". */
  number: string;
  task?: Task | undefined;
  does: string;
  /** Names; "your machine" where a file is fetched. */
  on: string[];
  acts: Act[];
  /** The exit codes with which the plan continues. */
  exit: number[];
  /** The last line of what it prints, with … for what varies. */
  ends?: string | undefined;
  costs: string;
  /** On one node: the least and the most. */
  seconds: readonly [number, number];
  longer?: string | undefined;
  note?: string | undefined;
  /** Sentences about what cannot be taken back. */
  irreversible: string[];
  /** Numbers of the steps that have to be repeated after this one is repeated. */
  makesVoid: string[];
  isDone: boolean;
}

export interface NodeData extends Pick<PlanNode, "name" | "role" | "address"> {
  /** Why the address is a placeholder: nothing proves it. */
  why?: string | undefined;
  /** Its state, as it was seen. */
  said?: string | undefined;
}

export interface DecisionData {
  id: DecisionId;
  question: string[];
  ways: Way[];
}

export interface PlanData extends ReturnType<typeof okAnswer<object>> {
  node: string;
  cluster?: string | undefined;
  kubernetes?: string | undefined;
  made: string;
  damaged: boolean;
  verdict: string;
  aim?: string | undefined;
  looked: string[];
  nodes: NodeData[];
  lost: string[];
  away: string[];
  /** All steps up to the proof. */
  seconds: readonly [number, number];
  /** The plan is made on another node (`to`), or waits for a look at nodes or for a word. */
  elsewhere?: { aim: string; to?: string | undefined; open: string[] } | undefined;
  /** Open ones come first; without one of their words the plan has no steps, or other ones. */
  decisions: DecisionData[];
  apiAway?: { from: string; until: string; seconds: [number, number] } | undefined;
  notes: string[];
  parts: PartData[];
}

/** The plan was refused, or could not be made. */
export interface NoPlanData extends StoppedAnswer {
  decisions?: DecisionData[];
}

interface PartData {
  number: number;
  title: string;
  /** Why the part has no steps. */
  why?: string | undefined;
  /** How the part is taken back. */
  undo: string;
  notes: string[];
  steps: StepData[];
}
