// Draws every chart of the page from the specification beside its canvas, in the page's colours, light or dark.
"use strict";
const SERIES_COLOURS = ["#1f77b4", "#e2711d", "#2a9d5c", "#c2453d", "#8a63c7", "#8c6d46", "#d066b0", "#6b7a89", "#a8a516", "#1aa6b7"];
const drawnCharts = new Map();

function cssColour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

function chartConfig(spec) {
  const text = cssColour("--muted"), grid = cssColour("--line");
  const lines = spec.kind === "line", bars = spec.kind === "bar";
  const longest = Math.max(0, ...spec.series.map((one) => one.data.length));
  const datasets = spec.series.map((one, number) => {
    const colour = SERIES_COLOURS[number % SERIES_COLOURS.length];
    return {
      label: one.name,
      data: bars ? one.data : one.data.map(([x, y]) => ({ x, y })),
      borderColor: colour,
      backgroundColor: bars || !lines ? colour + "b0" : colour,
      borderWidth: lines ? 2 : 0,
      pointRadius: lines ? (spec.points || longest === 1 ? 3 : 0) : 4,
      pointHitRadius: 8,
      showLine: lines,
      spanGaps: false,
    };
  });
  // Intervals [low, high] along x, one for each point of a series: a line each, with a gap (y null) between them.
  spec.series.forEach((one, number) => {
    const limits = spec.intervals && spec.intervals[one.name];
    if (!limits) return;
    const ends = limits.flatMap(([low, high], at) => low === null ? [] :
      [{ x: low, y: one.data[at][1] }, { x: high, y: one.data[at][1] }, { x: high, y: null }]);
    datasets.push({ label: "", data: ends, borderColor: SERIES_COLOURS[number % SERIES_COLOURS.length] + "90",
      borderWidth: 1.5, pointRadius: 0, pointHitRadius: 0, showLine: true, spanGaps: false });
  });
  if (spec.diagonal) {
    const [low, high] = Array.isArray(spec.diagonal) ? spec.diagonal : [0, 1];
    datasets.push({ label: Array.isArray(spec.diagonal) ? "" : "ideal", data: [{ x: low, y: low }, { x: high, y: high }],
      borderColor: text, borderWidth: 1, borderDash: [4, 4], pointRadius: 0, pointHitRadius: 0, showLine: true });
  }
  if (spec.line) {
    datasets.push({ label: spec.line.name, data: spec.line.data.map(([x, y]) => ({ x, y })), borderColor: text,
      borderWidth: 2, stepped: "before", pointRadius: 0, showLine: true });
  }
  if (spec.emphasis) {
    for (const one of datasets) {
      const quiet = { borderColor: text + "60", backgroundColor: text + "60", borderWidth: 1, order: 1 };
      Object.assign(one, one.label === spec.emphasis ? { borderColor: cssColour("--accent"), borderWidth: 3 } : quiet);
    }
  }
  const axis = (title, kind) => ({
    type: kind, title: { display: Boolean(title), text: title, color: text }, ticks: { color: text }, grid: { color: grid },
  });
  const value = axis(spec.y, spec.log ? "logarithmic" : "linear");
  const other = axis(spec.x, bars ? "category" : spec.xlog ? "logarithmic" : "linear");
  if (spec.integers) other.ticks.precision = 0;
  if (spec.xnames) {  // points at 0, 1, 2 ... stand for names
    Object.assign(other, { min: -0.5, max: spec.xnames.length - 0.5 });
    Object.assign(other.ticks, { stepSize: 0.5, callback: (place) => spec.xnames[place] ?? "" });
  }
  for (const [one, limits] of [[other, spec.xrange], [value, spec.yrange]]) {
    if (limits) Object.assign(one, { min: limits[0], max: limits[1] });
  }
  return {
    type: bars ? "bar" : "scatter",
    data: { labels: spec.names, datasets },
    options: {
      animation: false, responsive: true, maintainAspectRatio: false, indexAxis: spec.horizontal ? "y" : "x",
      interaction: { mode: "nearest", intersect: false, axis: bars ? (spec.horizontal ? "y" : "x") : "xy" },
      scales: spec.horizontal ? { x: value, y: other } : { x: other, y: value },
      plugins: {
        title: { display: Boolean(spec.title), text: spec.title, color: cssColour("--text"), align: "start" },
        legend: { display: datasets.filter((one) => one.label).length > 1 && !spec.emphasis,
          labels: { color: text, boxWidth: 14, boxHeight: 3, filter: (item) => Boolean(item.text) } },
        tooltip: { callbacks: { label: (item) => {
          const note = spec.labels && spec.labels[item.dataset.label] && spec.labels[item.dataset.label][item.dataIndex];
          const shown = item.formattedValue;
          return note ? `${note}: ${shown}` : `${item.dataset.label}: ${shown}`;
        } } },
      },
    },
  };
}

// Draws the chart of a <figure class="chart">, again if it was drawn before. A page that gets new data sets the text of
// the script element inside and calls this.
function drawChart(figure) {
  const old = drawnCharts.get(figure);
  if (old) old.destroy();
  const spec = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
  drawnCharts.set(figure, new Chart(figure.querySelector("canvas"), chartConfig(spec)));
}

function drawAllCharts() { document.querySelectorAll("figure.chart").forEach(drawChart); }
drawAllCharts();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAllCharts);
