// Shows the state of a run, and asks the server for a newer one every two seconds.
"use strict";
const byId = (name) => document.getElementById(name);
const NAMES = { running: "running", done: "finished", stopped: "stopped", failed: "failed", waiting: "waiting",
  silent: "no sign of life", "not running": "not running" };
const WARNINGS = {
  silent: "The training has given no sign of life for a while: it was killed, or its machine is gone. The same command resumes it.",
  stopped: "The training was stopped. The same command resumes it.",
  failed: "The training ended with an error; see the last lines.",
};

function duration(seconds) {
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const number = (value, digits) => value === null || value === undefined ? "–" : value.toFixed(digits);
const lastOf = (fold, column) => fold.rows.length ? fold.rows[fold.rows.length - 1][column] : null;
const whole = (value) => value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");

function newest(state) {
  const running = state.folds.filter((fold) => fold.state === "running" && fold.rows.length);
  const withRows = state.folds.filter((fold) => fold.rows.length);
  return running[0] || withRows[withRows.length - 1];
}

function showTiles(state) {
  const fold = newest(state), tiles = [];
  const finished = state.folds.filter((one) => one.score !== null);
  if (finished.length) {
    const mean = finished.reduce((sum, one) => sum + one.score, 0) / finished.length;
    tiles.push([number(mean, 4), finished.length > 1 ? `mean score of ${finished.length} folds, with views` : `score of fold ${finished[0].number}, with views`]);
  }
  if (fold) {
    tiles.push([number(lastOf(fold, "score"), 4), `score, fold ${fold.number} epoch ${fold.rows.length}`]);
    tiles.push([number(lastOf(fold, "loss"), 3), "loss of that epoch"]);
    tiles.push([whole(lastOf(fold, "images_per_second")), "images per second"]);
    const waiting = lastOf(fold, "waiting_share"), gpu = lastOf(fold, "gpu_utilisation");
    if (waiting !== null && waiting !== undefined) tiles.push([`${Math.round(100 * waiting)}%`, "of the time waiting for data"]);
    tiles.push([`${whole(lastOf(fold, "memory_mib"))} MiB`, "memory at most"]);
    if (gpu) tiles.push([`${Math.round(100 * gpu)}%`, "GPU use"]);
  }
  byId("tiles").replaceChildren(...tiles.map(([value, what]) => {
    const tile = element("div", undefined, "tile");
    tile.append(element("b", value), element("span", what));
    return tile;
  }));
}

function showFolds(state) {
  const head = element("tr");
  for (const title of ["fold", "state", "epochs", "score", "score with views", "time"]) head.append(element("th", title));
  byId("folds").replaceChildren(head, ...state.folds.map((fold) => {
    const row = element("tr"), epochs = element("td", `${fold.rows.length} of ${fold.epochs}`), bar = element("div", undefined, "bar");
    bar.append(element("div"));
    bar.firstChild.style.width = `${100 * (fold.state === "done" ? 1 : (fold.rows.length + fold.part) / Math.max(1, fold.epochs))}%`;
    if (fold.state === "done") bar.classList.add("done");
    epochs.append(bar);
    const seconds = fold.rows.reduce((sum, one) => sum + (one.seconds || 0), 0);
    const cell = element("td");
    cell.append(element("span", NAMES[fold.state], `state ${fold.state}`));
    row.append(element("td", fold.restarted ? `${fold.number} (--restart)` : fold.number), cell, epochs,
      element("td", number(lastOf(fold, "score"), 4)), element("td", number(fold.score, 4)), element("td", seconds ? duration(seconds) : "–"));
    return row;
  }));
}

let drawn = "";
function showCharts(state) {
  const signature = JSON.stringify(state.folds.map((fold) => [fold.number, fold.restarted, fold.rows.length, fold.rows[0]]));
  if (signature === drawn) return;
  drawn = signature;
  for (const place of byId("charts").children) {
    const column = place.dataset.column, figure = place.querySelector("figure"), script = figure.querySelector("script");
    const spec = JSON.parse(script.textContent);
    spec.series = state.folds.filter((fold) => fold.rows.some((row) => row[column] !== null && row[column] !== undefined))
      .map((fold) => ({ name: `fold ${fold.number}`, data: fold.rows.map((row) => [row.epoch, row[column] ?? null]) }));
    place.hidden = column === "gpu_utilisation" ? !spec.series.some((one) => one.data.some(([, y]) => y > 0)) : !spec.series.length;
    script.textContent = JSON.stringify(spec);
    if (!place.hidden) drawChart(figure);
  }
}

function show(state) {
  const percent = `${Math.floor(100 * state.share)}%`, running = state.state === "running";
  byId("state").textContent = NAMES[state.state];
  byId("state").className = `state ${state.state}`;
  byId("settings").textContent = [...Object.entries(state.settings).map(([name, value]) => `${name} ${value}`), state.device].filter(Boolean).join(" · ");
  byId("bar").firstElementChild.style.width = `${100 * state.share}%`;
  byId("bar").classList.toggle("done", state.state === "done");
  byId("share").textContent = percent;
  byId("left").textContent = running && state.seconds_left !== null ? `${duration(state.seconds_left)} left` : NAMES[state.state];
  byId("stage").textContent = running ? [state.stage, state.text].filter(Boolean).join(": ") : "";
  byId("warning").hidden = !WARNINGS[state.state];
  byId("warning").textContent = WARNINGS[state.state] || "";
  document.title = `${running ? percent : NAMES[state.state]} · ${state.run} · ${state.competition}`;
  showTiles(state); showFolds(state); showCharts(state);
  const lines = byId("lines"), text = state.lines.join("\n") || "Nothing was printed yet.";
  if (lines.textContent !== text) { lines.textContent = text; lines.scrollTop = lines.scrollHeight; }
}

async function poll() {
  try {
    show(await (await fetch("state.json", { cache: "no-store" })).json());
  } catch {
    byId("warning").hidden = false;
    byId("warning").textContent = "src.watch does not answer: what you see is old. It was ended, or the connection is down.";
  }
  setTimeout(poll, 2000);
}

show(JSON.parse(byId("first").textContent));
if (LIVE) setTimeout(poll, 2000);
