/**
 * A plan as one HTML page that needs nothing else: its style and script are in it, and its Content-Security-Policy allows
 * no others. Without the script it is the same text.
 */
import { createHash } from "node:crypto";
import { asHtml, FEW } from "../plain.ts";
import { VERSION } from "../run.ts";
import type { Line } from "./by-hand.ts";
import type { Plan, PlanPart, SeenStep } from "./make-plan.ts";
import {
  ANEW,
  ANEW_AT_ANY_TIME,
  AWAY,
  asSentence,
  durationOf,
  estimateOf,
  howTo,
  ifItStops,
  LOST,
  repeatsOf,
  where,
} from "./markdown.ts";
import type { Note } from "./note.ts";
import { inSentences, isSeenDone } from "./observations.ts";
import style from "./plan-page.css" with { type: "text" };
import script from "./plan-page-script.js" with { type: "text" };

export function planAsPage(plan: Plan): string {
  const title = `The plan${plan.cluster ? ` for the cluster ${plan.cluster}` : ""}`;
  const made = plan.made.toISOString();
  return `<!doctype html>
<html lang="en" data-made="${asHtml(`${plan.node} ${made}`)}" data-estimate="${estimateOf(plan) ?? ""}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src '${hashOf(style)}'; script-src '${hashOf(script)}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${asHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<div class="page">
${inOnePiece(body(plan, title), plan)}
</div>
<script>${script}</script>
</body>
</html>
`;
}

/** Names, and their files (NODE.tar), are read as one word. */
function inOnePiece(html: string, { nodes, lost, away }: Plan): string {
  const names = new Set([...nodes.map(({ name }) => name), ...lost, ...away]);
  const asName = (word: string) =>
    names.has(word) || names.has(word.replace(/\.[a-z]+$/, "")) ? `<span class="name">${word}</span>` : word;
  return html.replaceAll(/(?<=>)[^<>]+(?=<)/g, (text) => text.replaceAll(/[\w-]+(?:\.[\w-]+)*/g, asName));
}

function body(plan: Plan, title: string): string {
  return `<header>
<h1>${asHtml(title)}</h1>
<p class="made">Made on ${asHtml(plan.node)}, <time>${plan.made.toISOString().slice(0, 16).replace("T", " ")}</time> UTC${plan.kubernetes ? `; Kubernetes ${asHtml(plan.kubernetes)}` : ""}. ${asHtml(plan.looked.join(". "))}.</p>
<p class="aim">${asHtml(plan.aim ?? plan.verdict)}</p>
${plan.ownVerdict ? `<p>00-assess: ${asHtml(plan.ownVerdict)}</p>` : ""}
${plan.parts.length > 0 ? `<p>${howTo(plan).map(inline).join("\n")}</p>` : ""}
</header>
<main>
${nodes(plan)}
${plan.anew.length > 0 ? `<div id="anew"><p>${ANEW_AT_ANY_TIME}:</p>${lines(plan.anew, "a new plan")}</div>` : ""}
${plan.first.map((one, index) => note(one, `note ${index + 1}`)).join("\n")}
<div id="progress" hidden><progress id="bar" aria-label="Steps done"></progress><span id="count" role="status"></span><span id="clock"></span></div>
<div id="said" class="unseen" role="status"></div>
${plan.parts.map((one) => part(one, plan)).join("\n")}
</main>
<footer>kube-pki-repair ${asHtml(VERSION)}. RUNBOOK.md has these parts in full. The ticks are saved in this page's address.</footer>`;
}

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

function nodes({ nodes, lost, away }: Plan): string {
  const shown = nodes.length > FEW * 2 ? nodes.filter(({ role, why }) => role !== "worker" || why) : nodes;
  const more = nodes.length - shown.length;
  const items = shown.map(
    ({ name, role, address, why, said }) =>
      `<li><b>${asHtml(name)}</b> ${marked(address)}<span>${role}</span>${said ? `<span>${asHtml(said)}</span>` : ""}${why ? `<span>Write its address in yourself. ${asHtml(why)}</span>` : ""}</li>`,
  );
  items.push(...lost.map((name) => `<li><b>${asHtml(name)}</b><span>${LOST}</span></li>`));
  items.push(...away.map((name) => `<li><b>${asHtml(name)}</b><span>${AWAY}</span></li>`));
  return `<ul class="nodes">${items.join("\n")}${more > 0 ? `<li>and ${more} workers</li>` : ""}</ul>`;
}

function part({ number, title, notes, steps, why, undo, hasTable }: PlanPart, { anew }: Plan): string {
  const end = `<div class="end">
${undo ? `<p><b>Undo.</b> ${inline(undo)}</p>` : ""}
${hasTable ? `<p>${inline(ifItStops(number))}</p>` : ""}
${anew.length > 0 ? `<p class="anew">${inline(ANEW)}</p>` : ""}
</div>`;
  return `<section aria-labelledby="part-${number}">
<h2 id="part-${number}"><span class="number">${number}</span>${asHtml(title)}</h2>
${why ? `<p>Not needed: ${asHtml(why)}.</p>` : ""}
${notes.map((one, index) => note(one, `part ${number}, note ${index + 1}`)).join("\n")}
${steps.map(step).join("\n")}
${why ? "" : end}
</section>`;
}

/** `of`: for those who hear the page. */
function note({ text, commands }: Note, of: string): string {
  return `<div class="note"><p>${asHtml(text)}</p>${lines(commands, of)}</div>`;
}

function step(one: SeenStep): string {
  return `<article class="step" id="step-${one.number}" aria-labelledby="step-${one.number}-does">
<label id="step-${one.number}-does"><input type="checkbox" data-step="${one.number}" autocomplete="off"${isSeenDone(one) ? " checked" : ""}><span class="number">${one.number}</span><span class="does">${asHtml(one.does)}</span></label>
<p class="where">${asHtml(where(one))}</p>
${inSentences(one.observations)
  .map((sentence) => `<p class="seen">${asHtml(sentence)}.</p>`)
  .join("\n")}
${one.note ? `<p>${asHtml(one.note)}.</p>` : ""}
${lines(one.lines, `step ${one.number}`)}
<p class="about">${about(one).join(" ")}</p>
</article>`;
}

/** Beside its line there is no room for a longer name. */
const LONG = 24;

function lines(all: readonly Line[], of: string): string {
  if (all.length === 0) return "";
  const isLong = all.some(({ at = "" }) => at.length > LONG);
  const items = all.map(
    ({ at, text }) =>
      `<div class="line">${at ? `<span class="at">${asHtml(at)}</span>` : ""}<pre><code>${marked(text)}</code></pre></div>`,
  );
  return `<div class="lines${isLong ? " long" : ""}" data-of="${asHtml(of)}">${items.join("\n")}</div>`;
}

/** Addresses to be written in by hand stand out. */
function marked(text: string): string {
  return asHtml(text).replaceAll(/ADDRESS-OF-[\w.-]+/g, "<mark>$&</mark>");
}

function about(step: SeenStep): string[] {
  const { costs, exit, ends } = step;
  const lines = [`<b>Costs</b> ${asHtml(costs)}.`];
  for (const text of step.irreversible ?? []) lines.push(`<b>${asHtml(asSentence(text))}.</b>`);
  if (step.makesVoid.length > 0) lines.push(`${asHtml(repeatsOf(step))}.`);
  if (durationOf(step)) lines.push(`<b>Takes</b> ${asHtml(durationOf(step))}.`);
  if (ends) lines.push(`<b>Ends in</b> <code>${asHtml(ends)}</code>`);
  if (exit.some((code) => code > 0)) lines.push(`<b>Exit code</b> ${exit.join(" or ")}.`);
  return lines;
}

/** The little Markdown of a cell. What can be typed is in a box of its own, which gets a button. */
function inline(markdown: string): string {
  return asHtml(markdown)
    .replaceAll(/`([^`]+)`/g, (_, code: string) =>
      TYPED.test(code) ? `<code class="typed">${code}</code>` : `<code>${code}</code>`,
    )
    .replaceAll(/\*\*([^*]+)\*\*/g, "<b>$1</b>");
}

const TYPED = /^(?:\.\/bunw|crictl|for p in|getent|journalctl|kubectl|mv|rm|systemctl) \S/;
