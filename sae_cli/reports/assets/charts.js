"use strict";
// Charts, drawn when they come into view, from the columns that their CSV files hold.

// Okabe and Ito's colors, which those who are color-blind tell apart; each with a symbol of its own.
const COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x"];
const SYMBOLS_3D = ["circle", "square", "diamond", "circle-open", "square-open", "diamond-open"];
const MOST_POINTS = 8000; // that a browser draws in the plane without a pause
const charts = new Map(report.charts.map((chart) => [chart.name, chart]));
const drawn = new Set();

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function hasWebGL() {
  const canvas = document.createElement("canvas");
  return Boolean(canvas.getContext("webgl") ?? canvas.getContext("webgl2"));
}

function traceOf(series, chart, read) {
  const columns = Object.fromEntries(Object.entries(series.columns).map(([name, each]) => [name, columnOf(read, each)]));
  const color = COLORS[series.color % COLORS.length];
  const trace = {
    name: series.name,
    type: chart.z ? "scatter3d" : "scatter",
    mode: { points: "markers", line: "lines", "line+points": "lines+markers", bars: "lines" }[series.mark],
    opacity: series.faint ? 0.45 : 1,
    marker: {
      color: color,
      size: chart.z ? 2.5 : series.length > 400 ? 4 : 7,
      symbol: (chart.z ? SYMBOLS_3D : SYMBOLS)[series.color % SYMBOLS.length],
      opacity: series.length > 400 ? 0.6 : 0.95,
    },
    line: { color: color, width: series.faint ? 1 : 2, dash: series.dash },
    connectgaps: false,
    ...places(series, columns, chart),
  };
  if (!chart.z) trace.yaxis = axisName("y", series.panel);
  if (series.error) trace.error_y = { type: "data", array: columns[series.error], visible: true, color: color };
  return trace;
}

function places(series, columns, chart) {
  if (series.mark === "bars") return bars(columns[series.x], columns[series.to], columns[series.y]);
  const target = series.feature || series.href;
  const label = series.label || series.feature;
  const order = chart.z || series.mark !== "points" ? broken(series, columns) : some(series.length, strideOf(chart));
  const pick = (name) => order.map((i) => (i < 0 ? null : columns[name][i]));
  const axes = { x: pick(series.x), y: pick(series.y), ...(chart.z ? { z: pick(series.z) } : {}) };
  if (target) axes.customdata = order.map((i) => (i < 0 ? null : columns[target][i]));
  if (label) {
    axes.text = order.map((i) => (i < 0 ? "" : escaped(`${series.feature === label ? "feature " : ""}${columns[label][i]}`)));
    axes.hovertemplate = `%{text}<br>%{x:.4g}, %{y:.4g}${chart.z ? ", %{z:.4g}" : ""}<extra>%{fullData.name}</extra>`;
  }
  return axes;
}

// Every how manieth point of a chart is drawn: all, unless there are very many.
function strideOf(chart) {
  const points = chart.series.reduce((sum, series) => sum + (series.mark === "points" ? series.length : 0), 0);
  return chart.z ? 1 : Math.ceil(points / MOST_POINTS) || 1;
}

function some(length, stride) {
  return Array.from({ length: Math.ceil(length / stride) }, (_, i) => i * stride);
}

// Row numbers, with -1 where a new line begins.
function broken(series, columns) {
  const group = series.group ? columns[series.group] : null;
  const order = [];
  for (let i = 0; i < series.length; i++) {
    if (group && i && group[i] !== group[i - 1]) order.push(-1);
    order.push(i);
  }
  return order;
}

// The outline of a histogram: two corners a bar.
function bars(from, to, height) {
  const x = [], y = [], text = [];
  for (let i = 0; i < height.length; i++) {
    x.push(from[i], to[i]);
    y.push(height[i], height[i]);
    text.push(...Array(2).fill(`${shortNumber(from[i])} – ${shortNumber(to[i])}: ${shortNumber(height[i])}`));
  }
  return { x, y, text, fill: "tozeroy", hovertemplate: "%{text}<extra>%{fullData.name}</extra>" };
}

// The library reads a few HTML tags in text.
function escaped(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function axisName(letter, number) {
  return letter + (number ? String(number + 1) : "");
}

function axisOf(axis) {
  const grid = style("--edge");
  return {
    title: { text: axis.title },
    type: axis.log ? "log" : undefined,
    exponentformat: "power",
    gridcolor: grid,
    zerolinecolor: grid,
    linecolor: grid,
    automargin: true,
  };
}

function layoutOf(chart) {
  const ink = style("--ink");
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: "system-ui, sans-serif", size: 12 },
    margin: { l: 60, r: 12, t: 10, b: 45 },
    hovermode: "closest",
    showlegend: chart.series.length > 1,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
  };
  if (chart.z) {
    const camera = { eye: { x: 1.75, y: 1.75, z: 1.2 } };
    layout.scene = { camera, xaxis: axisOf(chart.x), yaxis: axisOf(chart.y[0]), zaxis: axisOf(chart.z) };
    layout.margin = { l: 0, r: 0, t: 10, b: 0 };
    return layout;
  }
  const count = chart.y.length;
  chart.y.forEach((axis, number) => {
    const name = `yaxis${number ? number + 1 : ""}`;
    const top = 1 - number / count;
    layout[name] = { ...axisOf(axis), domain: [top - 1 / count + (number < count - 1 ? 0.035 : 0), top] };
  });
  layout.xaxis = { ...axisOf(chart.x), anchor: axisName("y", count - 1) };
  layout.shapes = chart.lines.map((line) => shapeOf(line, ink));
  return layout;
}

function shapeOf(line, ink) {
  const vertical = line.axis === "x";
  const panel = axisName("y", line.panel);
  return {
    type: "line",
    xref: vertical ? "x" : "x domain",
    yref: vertical ? `${panel} domain` : panel,
    x0: vertical ? line.value : 0,
    x1: vertical ? line.value : 1,
    y0: vertical ? 0 : line.value,
    y1: vertical ? 1 : line.value,
    line: { color: ink, width: 1.5, dash: "dash" },
    label: { text: escaped(line.label), textposition: "end", font: { color: ink, size: 11 } },
  };
}

async function draw(figure) {
  const chart = charts.get(figure.dataset.chart);
  const plot = figure.querySelector(".plot");
  if (chart.z && !hasWebGL()) {
    plot.textContent = "This browser shows no WebGL, which a chart in three dimensions needs; its projections follow.";
    figure.dataset.drawn = "no";
    return;
  }
  const read = await numbers;
  const traces = chart.series.map((series) => traceOf(series, chart, read));
  const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] };
  const first = !drawn.has(figure);
  await Plotly.react(plot, traces, layoutOf(chart), config);
  if (first) plot.on("plotly_click", (event) => follow(chart, event.points[0]));
  if (first && strideOf(chart) > 1) {
    const note = `One point in ${strideOf(chart)} is drawn; the CSV file has all.`;
    figure.querySelector("figcaption").prepend(element("p", {}, note));
  }
  drawn.add(figure);
  figure.dataset.drawn = "yes";
}

function follow(chart, point) {
  const series = chart.series[point.curveNumber];
  if (point.customdata === null || point.customdata === undefined) return;
  if (series.feature && report.features) location.hash = `f=${point.customdata}`;
  if (series.href && point.customdata) location.href = point.customdata;
}

function redraw() {
  return Promise.all([...drawn].map(draw));
}

// A chart's data as a CSV file (RFC 4180), with a column for the series where there are several.
async function csv(name) {
  const chart = charts.get(name);
  const read = await numbers;
  const several = chart.series.length > 1;
  const names = [...new Set(chart.series.flatMap((series) => Object.keys(series.columns)))];
  const rows = [[...(several ? ["series"] : []), ...names]];
  for (const series of chart.series) {
    const columns = names.map((each) => (each in series.columns ? columnOf(read, series.columns[each]) : null));
    for (let i = 0; i < series.length; i++) {
      rows.push([...(several ? [series.name] : []), ...columns.map((column) => (column ? column[i] : ""))]);
    }
  }
  return rows.map((row) => row.map(field).join(",") + "\r\n").join("");
}

function field(value) {
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  const text = /^[=+@\t-]/.test(value) ? `'${value}` : value; // a spreadsheet would compute it
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

async function save(name) {
  const address = URL.createObjectURL(new Blob([await csv(name)], { type: "text/csv" }));
  element("a", { href: address, download: `${name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const coming = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    coming.unobserve(target);
    draw(target);
  }
}, { rootMargin: "300px" });

for (const figure of document.querySelectorAll("figure.chart")) coming.observe(figure);
for (const button of document.querySelectorAll("button[data-csv]")) {
  button.addEventListener("click", () => save(button.dataset.csv));
}
