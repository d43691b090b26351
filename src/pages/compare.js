// Draws the curves of the runs over each other, and shows the pair that is chosen.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

function seriesOf(name, each) {
  const [x, y] = data.axes[name], series = [];
  for (const [run, curves] of Object.entries(data.curves)) {
    const lines = each ? Object.entries(curves.folds).map(([fold, columns]) => [`${run}, fold ${fold}`, columns]) : [[run, curves.mean]];
    for (const [title, columns] of lines) {
      if (!columns.epoch) continue;
      const points = columns[x].map((at, place) => [at, columns[y][place]]);
      if (points.some(([, value]) => value !== null)) series.push({ name: title, data: points });
    }
  }
  return series;
}

function drawCurves() {
  const each = document.getElementById("folds").value === "each";
  for (const place of document.getElementById("curves").children) {
    const figure = place.querySelector("figure"), script = figure.querySelector("script");
    script.textContent = JSON.stringify({ ...JSON.parse(script.textContent), series: seriesOf(place.dataset.chart, each) });
    drawChart(figure);
  }
}

function showPair(chosen) {
  for (const section of document.querySelectorAll("section[data-pair]")) {
    section.hidden = section.dataset.pair !== chosen;
    if (!section.hidden) section.querySelectorAll("figure.chart").forEach(drawChart);
  }
}

document.getElementById("folds").addEventListener("change", drawCurves);
document.getElementById("pair")?.addEventListener("change", (event) => showPair(event.target.value));
drawCurves();
