// Figures: every chart of the data in Plotly's terms. A method that is off is in none of them.

const PALE = { light: "#e3e6ea", dark: "#343a42" };
const INK = { light: "#1c1f23", dark: "#e4e7eb" };
const QUIET = { light: "#5b636d", dark: "#a2abb6" };
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: "reset+autosize" };

function themeOf(dark) {
  const scheme = dark ? "dark" : "light";
  return { pale: PALE[scheme], ink: INK[scheme], quiet: QUIET[scheme] };
}

function faded(colour, share) {
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return `rgba(${parts.join(",")},${share})`;
}

// The series of a view, and of methods that are on; those of no method stay.
function seriesShown(chart, view, off) {
  return chart.series.filter((one) => (one.v === undefined || one.v === view) && !(one.m && off.has(one.m)));
}

function xsOf(series, view) {
  return Array.isArray(series.x) ? series.x : series.x[view];
}

function traceOf(chart, series, view, looks, classes, theme) {
  const x = xsOf(series, view);
  if (!x) return null;
  const look = looks[series.m] || { colour: theme.quiet, symbol: "circle", dash: "2px,3px" };
  const texts = series.t || x.map(() => "");
  const spread = series.e || [];
  const customdata = x.map((_, at) => [spread[at] == null ? "" : ` ± ${spread[at]}`, texts[at] ? `<br>${escaped(texts[at])}` : ""]);
  const trace = {
    name: escaped(series.n || series.m), x, y: series.y, customdata, meta: series.m, type: "scatter",
    line: { color: look.colour, dash: look.dash, width: 2 },
    marker: { color: look.colour, symbol: look.symbol, size: look.symbol === "star" ? 10 : 7 },
    hovertemplate: `<b>%{fullData.name}</b><br>%{x}: %{y}%{customdata[0]}%{customdata[1]}<extra></extra>`,
  };
  const rgal = look.symbol === "star"; // of its host's colour: marked where no symbol is drawn
  if (chart.kind === "bars") {
    trace.marker.pattern = { shape: rgal ? "/" : "" };
    Object.assign(trace, { type: "bar", error_y: { type: "data", array: spread, visible: true, color: theme.ink } });
  } else if (chart.kind === "steps") {
    Object.assign(trace, { mode: "lines" });
    Object.assign(trace.line, { shape: "hv", width: rgal ? 3.5 : 2 });
  } else if (chart.kind === "points") {
    Object.assign(trace, { mode: "markers+text", text: texts.map(escaped), textposition: "top center" });
  } else if (chart.kind === "map") {
    const colours = series.c.map((place) => (classes[place] === "#000000" ? theme.ink : classes[place] || theme.quiet));
    const marker = { color: colours, symbol: series.open ? "circle-open" : "circle", size: series.open ? 7 : 4 };
    Object.assign(trace, { mode: "markers", marker, hovertemplate: "%{fullData.name}%{customdata[1]}<extra></extra>" });
  } else {
    trace.mode = "lines+markers";
    const every = Math.ceil(x.length / 12);
    if (every > 1) trace.marker.maxdisplayed = 12;
    if (typeof x[0] === "string") trace.error_y = { type: "data", array: spread, visible: true, thickness: 1 };
  }
  return trace;
}

// The band of a standard deviation around a line.
function bandOf(series, view, looks) {
  const x = xsOf(series, view);
  if (!x || !series.e || typeof x[0] === "string") return null;
  const known = x.map((_, at) => at).filter((at) => series.e[at] != null && series.y[at] != null);
  if (known.length < 2) return null;
  const upper = known.map((at) => [x[at], series.y[at] + series.e[at]]);
  const lower = known.map((at) => [x[at], series.y[at] - series.e[at]]).reverse();
  const around = [...upper, ...lower];
  const colour = (looks[series.m] || { colour: "#707780" }).colour;
  return {
    x: around.map((p) => p[0]), y: around.map((p) => p[1]), fill: "toself", fillcolor: faded(colour, 0.14), mode: "lines",
    line: { width: 0 }, hoverinfo: "skip", showlegend: false, meta: series.m, type: "scatter",
  };
}

// What Plotly draws of a chart: {data, layout}.
function plotOf(chart, view, off, data, theme) {
  const shown = seriesShown(chart, view, off);
  const at = chart.views.find((one) => one.k === view) || {};
  const bands = chart.kind === "lines" ? shown.map((one) => bandOf(one, view, data.looks)) : [];
  const traces = shown.map((one) => traceOf(chart, one, view, data.looks, data.classes, theme));
  const axis = { gridcolor: theme.pale, zeroline: false, linecolor: theme.quiet, automargin: true, fixedrange: false };
  const layout = {
    font: { family: "system-ui, sans-serif", size: 12, color: theme.ink },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest", barmode: "group",
    margin: { l: 50, r: 12, t: 8, b: 42 },
    xaxis: { ...axis, title: { text: at.label || "" }, type: at.log ? "log" : at.order ? "category" : "-" },
    yaxis: { ...axis, title: { text: chart.y } },
    shapes: [], annotations: [],
  };
  if (at.order) Object.assign(layout.xaxis, { categoryorder: "array", categoryarray: at.order });
  if (at.ticks) Object.assign(layout.xaxis, { tickvals: at.ticks.map((t) => t[0]), ticktext: at.ticks.map((t) => escaped(t[1])), tickangle: -90, tickfont: { size: 9 } });
  if (at.log) Object.assign(layout.xaxis, { dtick: "D2" });
  if (chart.range) layout.yaxis.range = [...chart.range];
  if (chart.kind === "map") {
    Object.assign(layout.xaxis, { showticklabels: false, showgrid: false });
    Object.assign(layout.yaxis, { showticklabels: false, showgrid: false, scaleanchor: "x" });
    layout.margin = { l: 8, r: 8, t: 8, b: 8 };
  }
  for (const [number, [label, value]] of (chart.levels || []).entries()) {
    const dash = label === "teacher" ? "8px,4px" : "2px,3px";
    layout.shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value, line: { color: theme.quiet, width: 1, dash } });
    layout.annotations.push({ xref: "paper", x: 1 - 0.24 * number, y: value, xanchor: "right", yanchor: "bottom", showarrow: false, text: `${escaped(label)} ${value}`, font: { size: 10, color: theme.quiet } });
  }
  return { data: [...bands, ...traces].filter(Boolean), layout };
}

// Plotly reads a little markup in texts: a name is not to be read as any.
function escaped(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// The figures of the page. off: the methods that are not shown; view: the axis that a reader chose last.
class Charts {
  constructor(data) {
    this.data = data;
    this.off = new Set();
    this.view = "";
    this.drawn = new Map();
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => this.again());
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) this.draw(entry.target);
    }, { rootMargin: "400px" });
    for (const figure of document.querySelectorAll("figure.chart")) this.seen.observe(figure);
  }

  viewOf(chart) {
    return (chart.views.find((one) => one.k === this.view) || chart.views[0]).k;
  }

  draw(figure) {
    this.seen.unobserve(figure);
    const chart = this.data.charts[Number(figure.dataset.chart)];
    this.drawn.set(figure, chart);
    if (chart.views.length > 1) this.addViews(figure, chart);
    this.show(figure, chart);
  }

  addViews(figure, chart) {
    for (const one of chart.views) {
      const text = one.name || one.label.replace(/ \(.*/, "");
      const button = make("button", { type: "button", "data-view": one.k, onclick: () => this.against(one.k) }, text);
      figure.querySelector(".views").append(button);
    }
  }

  show(figure, chart, theme = themeOf(this.dark.matches)) {
    const view = this.viewOf(chart);
    for (const button of figure.querySelectorAll(".views button")) {
      button.setAttribute("aria-pressed", String(button.dataset.view === view));
    }
    const { data, layout } = plotOf(chart, view, this.off, this.data, theme);
    Plotly.react(figure.querySelector(".canvas"), data, layout, CONFIG);
  }

  again(theme) {
    for (const [figure, chart] of this.drawn) if (!figure.hidden) this.show(figure, chart, theme);
  }

  against(view) {
    this.view = view;
    this.again();
  }

  // Show or hide methods everywhere: in all charts, and whatever is of one alone. on: name -> whether it is shown.
  showMethods(on) {
    for (const [name, shown] of on) {
      if (shown) this.off.delete(name);
      else this.off.add(name);
      this.buttons.get(name).setAttribute("aria-pressed", String(shown));
    }
    for (const figure of document.querySelectorAll("figure[data-method]")) figure.hidden = this.off.has(figure.dataset.method);
    for (const row of document.querySelectorAll("tr[data-method]")) row.classList.toggle("off", this.off.has(row.dataset.method));
    this.again();
  }

  // A button for each method, with its look; twice on one shows it alone.
  addMethods(place) {
    const names = Object.keys(this.data.looks);
    this.buttons = new Map(names.map((name) => {
      const button = make("button", { type: "button", "aria-pressed": "true", title: `Show or hide ${name}; double click: alone` }, lookOf(this.data.looks[name]), ` ${name}`);
      button.addEventListener("click", () => this.showMethods([[name, this.off.has(name)]]));
      button.addEventListener("dblclick", () => this.showMethods(names.map((other) => [other, other === name])));
      return [name, button];
    }));
    const all = make("button", { type: "button", onclick: () => this.showMethods(names.map((name) => [name, true])) }, "all");
    place.append(...this.buttons.values(), all);
  }
}

const SHAPES = {
  circle: "M6 10m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", square: "M2 6h8v8h-8z", "triangle-up": "M6 5l5 9h-10z", diamond: "M6 4l5 6-5 6-5-6z",
  "triangle-down": "M6 15l5-9h-10z", cross: "M4 5h4v3h3v4h-3v3h-4v-3h-3v-4h3z", x: "M2 8l2-2 2 2 2-2 2 2-2 2 2 2-2 2-2-2-2 2-2-2 2-2z",
  star: "M6 3l2 4.6 5 .4-3.8 3.3 1.2 4.9-4.4-2.7-4.4 2.7 1.2-4.9-3.8-3.3 5-.4z", "triangle-left": "M1 10l9-5v10z", "triangle-right": "M11 10l-9-5v10z",
  hexagon: "M2 8l4-3 4 3v5l-4 3-4-3z", pentagon: "M6 5l5 4-2 6h-6l-2-6z",
};

function lookOf(look) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  const open = look.symbol.endsWith("-open");
  for (const [name, value] of Object.entries({ viewBox: "-1 2 14 15", width: 13, height: 13, "aria-hidden": "true" })) svg.setAttribute(name, value);
  const paint = { d: SHAPES[look.symbol.replace("-open", "")], fill: open ? "none" : look.colour, stroke: look.colour };
  for (const [name, value] of Object.entries(paint)) path.setAttribute(name, value);
  svg.append(path);
  return svg;
}

if (typeof module !== "undefined") module.exports = { seriesShown, plotOf, themeOf, escaped };
