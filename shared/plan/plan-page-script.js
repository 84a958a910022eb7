// The plan's page: ticks that stay, and buttons that copy. Without it the page is the same text.
const page = document.documentElement.dataset;
const boxes = [...document.querySelectorAll("input[data-step]")];
const key = `plan ${page.made}`;
const [progress, count, clock, said] = ["bar", "count", "clock", "said"].map((id) => document.getElementById(id));
// When the first and the newest tick were made, in seconds.
let times = [];

const ticked = () => boxes.filter((box) => box.checked).map((box) => box.dataset.step);
const now = () => Math.round(Date.now() / 1000);

// In the address, so that a bookmark or a colleague has them, too; and in the browser, for the file that is opened again.
function keep() {
  times = ticked().length > 0 ? [times[0] ?? now(), now()] : [];
  const kept = `done=${ticked().join(",")}&at=${times.join(",")}`;
  history.replaceState(null, "", `#${kept}`);
  try {
    localStorage.setItem(key, kept);
  } catch {
    // a browser that keeps nothing: the address has it
  }
  show();
}

function kept() {
  if (location.hash.startsWith("#done=")) return location.hash.slice(1);
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

// Nothing is kept: the ticks that the page came with stay.
function restore() {
  const words = kept();
  if (words !== null) {
    const [, done, at] = /^done=([\w,.]*)(?:&at=([\d,]*))?$/.exec(words) ?? [];
    for (const box of boxes) box.checked = (done ?? "").split(",").includes(box.dataset.step);
    times = at ? at.split(",").map(Number) : [];
  }
  show();
}

function show() {
  const next = boxes.find((box) => !box.checked);
  for (const box of boxes) {
    const step = box.closest(".step");
    step.classList.toggle("done", box.checked);
    step.classList.toggle("next", box === next);
  }
  progress.max = boxes.length;
  progress.value = ticked().length;
  count.textContent = `${ticked().length} of ${boxes.length} steps done${next ? `, next: ${next.dataset.step}` : ""}`;
  tell();
}

// From the first tick to now, or to the last one.
function tell() {
  const [from, to] = times;
  const isDone = ticked().length === boxes.length;
  const elapsed = from === undefined ? [] : [`${inWords((isDone ? to : now()) - from)} since the first tick`];
  const estimate = page.estimate ? [`estimate: ${page.estimate}`] : [];
  clock.textContent = [...elapsed, ...estimate].join("; ");
}

function inWords(seconds) {
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

// `name`: what it copies, for those who hear the page.
function button(text, name, copied) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.setAttribute("aria-label", `${text} ${name}`);
  made.addEventListener("click", async () => {
    const done = (await copy(copied())) ? "Copied" : "Select it by hand";
    made.textContent = done;
    said.textContent = `${done}: ${name}`;
    setTimeout(() => (made.textContent = text), 2000);
  });
  return made;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyTheOldWay(text);
  }
}

// A page from a file, or from a server without TLS, may have no clipboard of the new kind.
function copyTheOldWay(text) {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

const textOf = (code) => code.textContent;

for (const lines of document.querySelectorAll(".lines")) {
  const all = [...lines.querySelectorAll("code")];
  for (const [index, code] of all.entries()) {
    const at = code.closest(".line").querySelector(".at")?.textContent;
    const name = `line ${index + 1} of ${lines.dataset.of}${at ? `, for ${at}` : ""}`;
    code.closest(".line").append(button("Copy", name, () => textOf(code)));
  }
  if (all.length > 1)
    lines.append(button(`Copy all ${all.length} lines`, `of ${lines.dataset.of}`, () => all.map(textOf).join("\n")));
}
for (const [index, code] of document.querySelectorAll(".typed").entries())
  code.after(button("Copy", `${textOf(code)}, box ${index + 1}`, () => textOf(code)));
for (const line of document.querySelectorAll(".anew")) {
  const lines = [...document.querySelectorAll("#anew code")];
  line.append(button("Copy them", `for a new plan, ${line.closest("section").getAttribute("aria-labelledby")}`, () => lines.map(textOf).join("\n")));
}
for (const box of boxes) box.addEventListener("change", keep);
addEventListener("hashchange", restore);
if (boxes.length > 0) {
  document.querySelector("#progress").hidden = false;
  restore();
  setInterval(tell, 1000);
}
