// The plan's page: ticks that stay, and buttons that copy. Without it the page is the same text.
const boxes = [...document.querySelectorAll("input[data-step]")];
const key = `plan ${document.documentElement.dataset.made}`;

// In the address, so that a bookmark or a colleague has them, too; and in the browser, for the file that is opened again.
function keep() {
  const done = boxes.filter((box) => box.checked).map((box) => box.dataset.step);
  history.replaceState(null, "", done.length > 0 ? `#done=${done.join(",")}` : location.pathname + location.search);
  try {
    localStorage.setItem(key, done.join(","));
  } catch {
    // a browser that keeps nothing: the address has it
  }
  show();
}

function kept() {
  const inAddress = /#done=([\d,]*)/.exec(location.hash);
  if (inAddress) return inAddress[1];
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

function show() {
  const next = boxes.find((box) => !box.checked);
  for (const box of boxes) {
    const step = box.closest(".step");
    step.classList.toggle("done", box.checked);
    step.classList.toggle("next", box === next);
  }
  const done = boxes.filter((box) => box.checked).length;
  document.querySelector("#progress").textContent = boxes.length > 0 ? `${done} of ${boxes.length} steps done` : "";
}

function restore() {
  const done = kept().split(",");
  for (const box of boxes) box.checked = done.includes(box.dataset.step);
  show();
}

function button(text, label, copied) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", async () => {
    made.textContent = (await copy(copied())) ? "Copied" : "Select it by hand";
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

for (const line of document.querySelectorAll(".line"))
  line.append(button("Copy", "Copy this line", () => line.querySelector("code").textContent));
for (const lines of document.querySelectorAll(".step .lines")) {
  const all = [...lines.querySelectorAll("code")];
  if (all.length > 1) lines.append(button(`Copy all ${all.length} lines`, "Copy all lines", () => all.map((one) => one.textContent).join("\n")));
}
for (const box of boxes) box.addEventListener("change", keep);
addEventListener("hashchange", restore);
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});
restore();
