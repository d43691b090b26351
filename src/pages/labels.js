// Labels that people called right or wrong: kept in this browser, downloaded as relabel.csv for prepare --relabel.
"use strict";
const report = JSON.parse(document.getElementById("report-data").textContent);
const storageKey = "podium relabel " + report.run;
const marks = new Map(); // path -> { label, right, when }

function readStorage(key, otherwise) {
  try { return localStorage.getItem(key) || otherwise; } catch { return otherwise; }
}
function writeStorage(key, value) {
  try { localStorage.setItem(key, value); } catch { /* a browser may forbid it: marks last as long as the page */ }
}
for (const [path, mark] of JSON.parse(readStorage(storageKey, "[]"))) marks.set(path, mark);

// The classes that the gallery can be filtered by, as the gallery writes them.
function filterClasses() {
  const { heads, names, pad, string } = report.labels;
  return names.length ? names : heads[0].classes.filter((text, number) => !string || (text && number !== pad));
}

// Why a text cannot be the label of a head, or nothing. `names` may be written instead of classes.
function headMistake(text, head, names) {
  if (head.kind === "number") return text.trim() !== "" && Number.isFinite(Number(text)) ? "" : "a number is expected";
  if (!head.classes) return ""; // too many for the page
  if (head.kind === "labels") {
    const parts = text.split(report.labels.separator).map((part) => part.trim()).filter(Boolean);
    const unknown = parts.find((part) => !head.classes.includes(part));
    return unknown === undefined ? "" : `there is no label ${unknown}`;
  }
  return head.classes.includes(text) || names.includes(text) ? "" : `there is no class ${text}`;
}

function stringMistake(text) {
  const known = filterClasses();
  const positions = report.labels.positions;
  if (known.every((one) => one.length === 1)) {
    const unknown = [...text].find((one) => !known.includes(one));
    if (unknown !== undefined) return `${unknown} is not one of ${known.join(" ")}`;
    const count = [...text].length;
    if (count < 1 || count > positions || (report.labels.pad === null && count !== positions)) {
      return `expected ${report.labels.pad === null ? positions : "1 to " + positions} characters`;
    }
  }
  return "";
}

// Why a text cannot be a label, or nothing; prepare checks it again.
function labelMistake(text) {
  const { heads, names, string } = report.labels;
  if (string) return heads[0].classes ? stringMistake(text) : "";
  if (heads.length === 1) return headMistake(text, heads[0], names);
  for (const part of text.split(";")) {
    const equals = part.indexOf("="), head = heads.find((one) => one.name === part.slice(0, equals).trim());
    if (equals < 0 || !head) return `write it as ${heads.map((one) => one.name + "=…").join(";")}`;
    const mistake = headMistake(part.slice(equals + 1).trim(), head, []);
    if (mistake) return `${head.name}: ${mistake}`;
  }
  return "";
}

function setMark(path, mark) {
  if (mark) marks.set(path, { ...mark, when: new Date().toISOString().slice(0, 19) + "Z" });
  else marks.delete(path);
  writeStorage(storageKey, JSON.stringify([...marks]));
  showMarks();
}

function showMarks() {
  const all = [...marks.values()], right = all.filter((mark) => mark.right).length;
  document.getElementById("marks").hidden = all.length === 0;
  document.getElementById("mark-count").textContent = `${all.length} marked: ${all.length - right} wrong, ${right} right`;
}

function csvCell(text) { return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; }

function relabelCsv(by) {
  const rows = [...marks].map(([path, mark]) => [path, mark.label, by, mark.when].map(csvCell).join(","));
  return ["image_path,label,by,when", ...rows, ""].join("\n");
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// The buttons that mark an image's label; `suggestion` is what is offered if it is wrong.
function markControls(path, label, suggestion) {
  const box = element("div", { className: "mark" });
  const ask = () => {
    const input = element("input", { value: suggestion, ariaLabel: "the right label" });
    const problem = element("span", { className: "bad" });
    const save = () => {
      const text = input.value.trim();
      problem.textContent = labelMistake(text);
      if (!problem.textContent) { setMark(path, { label: text, right: text === label }); show(); }
    };
    input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); save(); } });
    box.replaceChildren(input, element("button", { type: "button", textContent: "save", onclick: save }),
      element("button", { type: "button", textContent: "cancel", onclick: show }), problem);
    input.select();
  };
  const show = () => {
    const mark = marks.get(path);
    if (!mark) {
      box.replaceChildren(
        element("span", { className: "muted", textContent: "label" }),
        element("button", { type: "button", textContent: "right",
          onclick: () => { setMark(path, { label, right: true }); show(); } }),
        element("button", { type: "button", textContent: "wrong", onclick: ask }));
      return;
    }
    const text = mark.right ? "label is right" : `now ${mark.label || "(none)"}`;
    box.replaceChildren(element("b", { className: mark.right ? "good" : "bad", textContent: text }),
      element("button", { type: "button", textContent: "undo", onclick: () => { setMark(path, null); show(); } }));
  };
  show();
  return box;
}

const nameInput = document.getElementById("mark-by");
nameInput.value = readStorage("podium name", "");
nameInput.addEventListener("change", () => writeStorage("podium name", nameInput.value.trim()));
document.getElementById("mark-save").addEventListener("click", () => {
  const by = nameInput.value.trim(), note = document.getElementById("mark-note");
  note.textContent = by ? "" : "Enter your name first: the file says who decided.";
  if (!by) { nameInput.focus(); return; }
  const link = element("a", { download: "relabel.csv", href: URL.createObjectURL(new Blob([relabelCsv(by)], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
document.getElementById("mark-clear").addEventListener("click", () => {
  if (confirm(`Forget ${marks.size} marked labels?`)) { marks.clear(); writeStorage(storageKey, "[]"); location.reload(); }
});
showMarks();
