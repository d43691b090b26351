// The gallery: thumbnails from sheets, drawn when scrolled to, filtered and searched; one image at a time in a dialog.
"use strict";
const images = report.images, numImages = images.name.length;
const TILES_AT_ONCE = 60, SUSPECTS_AT_ONCE = 28, TILE_AREA = 14000, WIDEST = 190;
const explainedAt = new Map(images.explained.map((image, place) => [image, place]));
const suspectRank = new Map(images.suspect);
const sheetUrls = new Map();
const form = document.getElementById("filters");

const folderOf = (image) => images.folders[images.folder[image]];
const pathOf = (image) => (folderOf(image) ? folderOf(image) + "/" : "") + images.name[image];
const truthOf = (image) => images.texts[images.truth[image]];
const answerOf = (image) => images.texts[images.answer[image]];
const isRight = (image) => images.wrong[image] === 0;
const isSeveral = !report.labels.string && report.labels.heads.length > 1;
const shown = (text) => (isSeveral ? "\n" + text.replaceAll(";", "\n") : text) || "(none)"; // a line for each head
const percent = (share) => (share >= 0.9995 ? "100%" : share >= 0.1 ? Math.round(100 * share) + "%" : (100 * share).toPrecision(2) + "%");
const sureness = (image) => (report.numbers ? `error ${images.sure[image].toPrecision(3)}` : `${percent(images.sure[image])} sure`);

function sheetUrl(name) {
  if (!sheetUrls.has(name)) {
    const text = atob(document.querySelector(`[data-sheet="${name}"]`).textContent);
    const bytes = Uint8Array.from(text, (one) => one.charCodeAt(0));
    sheetUrls.set(name, URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
  }
  return sheetUrls.get(name);
}

// A layer that shows one thumbnail of a sheet, stretched to width x height.
function layer(kind, place, width, height, className) {
  const { columns, per_sheet: perSheet } = report.sheets[kind];
  const inside = place % perSheet, last = Math.floor(place / perSheet);
  const made = element("div", { className });
  made.style.backgroundImage = `url(${sheetUrl(kind + last)})`;
  const total = kind === "small" ? numImages : images.explained.length;
  const rows = Math.ceil(Math.min(perSheet, total - last * perSheet) / columns); // the last sheet may have fewer
  made.style.backgroundSize = `${columns * width}px ${rows * height}px`;
  made.style.backgroundPosition = `${-(inside % columns) * width}px ${-Math.floor(inside / columns) * height}px`;
  return made;
}

function sizeOf(area, widest) {
  const { width, height } = report.sheets.large || report.sheets.small;
  const wide = Math.round(Math.min(widest, Math.sqrt(area * width / height), 2.2 * Math.sqrt(area)));
  return [wide, Math.round(wide * height / width)];
}

function picture(image, [width, height], heat) {
  const place = explainedAt.get(image), large = place !== undefined;
  const made = element("div", { className: "picture" });
  Object.assign(made.style, { width: width + "px", height: height + "px" });
  made.append(large ? layer("large", place, width, height, "") : layer("small", image, width, height, ""));
  if (heat && large) made.append(layer("map", place, width, height, "heat"));
  return made;
}

function caption(image) {
  const truth = element("p", {}, "truth ", element("b", { textContent: shown(truthOf(image)) }));
  const good = !report.numbers && isRight(image);
  const answer = element("p", {}, report.word + " ",
    element("b", { className: report.numbers ? "" : good ? "good" : "bad", textContent: shown(answerOf(image)) }), ", " + sureness(image));
  return [truth, answer];
}

function tile(image, size, heat) {
  const open = element("button", { type: "button", className: "open", onclick: () => openDetail(image),
    ariaLabel: `${pathOf(image)}: truth ${shown(truthOf(image))}, ${report.word} ${shown(answerOf(image))}` }, picture(image, size, heat));
  const made = element("div", { className: "tile" }, open, ...caption(image), element("p", { className: "muted", textContent: images.name[image] }));
  made.style.width = Math.max(size[0], 118) + "px";
  return made;
}

// --- filters
for (const select of [form.elements.truth, form.elements.answer].filter(Boolean)) {
  select.append(...filterClasses().map((name) => element("option", { textContent: name, value: name })));
}

function matches(text, wanted) {
  if (report.match === "contains") return text.includes(wanted);
  return report.match === "list" ? text.split(report.labels.separator).includes(wanted) : text === wanted;
}

function filtered() {
  const values = Object.fromEntries(new FormData(form));
  const words = (values.search || "").toLowerCase().trim();
  const unit = report.numbers ? 1 : 100;
  const low = values.low ? Number(values.low) / unit : -Infinity, high = values.high ? Number(values.high) / unit : Infinity;
  const found = [];
  for (let image = 0; image < numImages; image++) {
    if (values.right && (values.right === "right") !== isRight(image)) continue;
    if (values.fold && String(images.fold[image]) !== values.fold) continue;
    if (images.sure[image] < low || images.sure[image] > high) continue;
    if (values.head && !(images.wrong[image] & (1 << Number(values.head)))) continue;
    if (values.truth && !matches(truthOf(image), values.truth)) continue;
    if (values.answer && !matches(answerOf(image), values.answer)) continue;
    if (values.length && [...truthOf(image)].length !== Number(values.length)) continue;
    if (values.explained && !explainedAt.has(image)) continue;
    if (words && ![pathOf(image), truthOf(image), answerOf(image)].some((text) => text.toLowerCase().includes(words))) continue;
    found.push(image);
  }
  const orders = { sure: (a, b) => images.sure[b] - images.sure[a], unsure: (a, b) => images.sure[a] - images.sure[b],
    name: (a, b) => (pathOf(a) < pathOf(b) ? -1 : 1) };
  return values.order ? found.sort(orders[values.order]) : found;
}

const grid = document.getElementById("grid"), sentinel = document.getElementById("more");
let current = [], numDrawn = 0;

function drawMore() {
  if (numDrawn >= current.length) return;
  const size = sizeOf(TILE_AREA, WIDEST), heat = form.elements.heat && form.elements.heat.checked;
  const some = current.slice(numDrawn, numDrawn + TILES_AT_ONCE);
  grid.append(element("div", { className: "group" }, ...some.map((image) => tile(image, size, heat))));
  numDrawn += some.length;
}

function showFiltered() {
  current = filtered();
  numDrawn = 0;
  grid.replaceChildren();
  document.getElementById("count").textContent = `${current.length.toLocaleString("en")} of ${numImages.toLocaleString("en")} images`;
  drawMore();
}

new IntersectionObserver((entries) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  const fill = () => {
    drawMore();
    if (numDrawn < current.length && sentinel.getBoundingClientRect().top < innerHeight + 900) requestAnimationFrame(fill);
  };
  fill();
}, { rootMargin: "900px" }).observe(sentinel);

let waiting = 0;
form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(showFiltered, 120); });
form.addEventListener("reset", () => setTimeout(showFiltered));
form.addEventListener("submit", (event) => event.preventDefault());
document.querySelectorAll("td[data-truth]").forEach((cell) => {
  const show = () => {
    form.reset();
    form.elements.truth.value = cell.dataset.truth;
    form.elements.answer.value = cell.dataset.answer;
    setTimeout(() => { showFiltered(); document.getElementById("gallery").scrollIntoView(); });
  };
  cell.addEventListener("click", show);
  cell.addEventListener("keydown", (event) => { if (event.key === "Enter") show(); });
});

// --- one image
const dialog = document.getElementById("detail"), detailBody = document.getElementById("detail-body");
let opened = 0;

function openDetail(image) {
  opened = image;
  const room = Math.min(innerWidth * 0.94 - 40, 660), two = explainedAt.has(image);
  const size = sizeOf(90000, two && room > 500 ? room / 2 - 8 : room);
  const line = (name, text) => element("p", {}, element("span", { className: "muted", textContent: name + " " }), text);
  const pictures = element("div", { className: "pictures" }, picture(image, size, false));
  if (two) pictures.append(picture(image, size, true));
  const rank = suspectRank.get(image);
  const step = (by) => { const next = current[current.indexOf(opened) + by]; if (next !== undefined) openDetail(next); };
  detailBody.replaceChildren(pictures, ...caption(image), line("image", pathOf(image)), line("fold", String(images.fold[image])),
    ...(rank === undefined ? [] : [element("p", { className: "bad", textContent: `suspicious label, number ${rank + 1}` })]),
    markControls(pathOf(image), truthOf(image), answerOf(image)),
    element("div", { className: "buttons" },
      element("button", { type: "button", textContent: "previous", onclick: () => step(-1) }),
      element("button", { type: "button", textContent: "next", onclick: () => step(1) }),
      element("button", { type: "button", textContent: "close", onclick: () => dialog.close() })));
  if (!dialog.open) dialog.showModal();
  dialog.onkeydown = (event) => {
    if (event.target.tagName === "INPUT") return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  };
}
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", showSuspects);

// --- suspicious labels, and thumbnails beside problems
const rankedSuspects = images.suspect.filter(([, rank]) => rank < report.of_label.length).sort((a, b) => a[1] - b[1]);
const suspectBox = document.getElementById("suspect-grid"), suspectMore = document.getElementById("suspect-more");
let numSuspects = SUSPECTS_AT_ONCE;

function suspectTile([image, rank], size) {
  const made = tile(image, size, false);
  if (!report.numbers) made.append(element("p", { className: "muted", textContent: `label ${percent(report.of_label[rank])} probable` }));
  made.append(markControls(pathOf(image), truthOf(image), answerOf(image)));
  made.style.width = Math.max(size[0], 150) + "px";
  return made;
}

function showSuspects() {
  if (!suspectBox) return;
  const size = sizeOf(TILE_AREA, WIDEST), some = rankedSuspects.slice(0, numSuspects);
  suspectBox.replaceChildren(element("div", { className: "group" }, ...some.map((one) => suspectTile(one, size))));
  suspectMore.hidden = some.length === rankedSuspects.length;
}
if (suspectMore) suspectMore.addEventListener("click", () => { numSuspects *= 2; showSuspects(); });

const imageAt = new Map(Array.from({ length: numImages }, (_, image) => [pathOf(image), image]));
document.querySelectorAll(".thumb").forEach((cell) => {
  const image = imageAt.get(cell.dataset.path);
  if (image !== undefined) cell.append(picture(image, sizeOf(2600, 90), false));
});
showSuspects();
showFiltered();
