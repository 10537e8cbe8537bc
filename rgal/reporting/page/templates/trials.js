// The list of trials, and the page of one or the comparison of several. Rows are made as a reader comes to them.

const CHUNK = 100; // rows that are added at a time
// Settings that columns of their own show, or that say nothing to a reader.
const SHOWN_ELSEWHERE = new Set(["method", "seed", "case", "case_order", "order", "task", "setting", "budget", "teacher_key", "code", "data"]);

// The text of a column that holds each text once: v, the distinct ones; i, the place of a row's own, or none.
function textAt(column, at) {
  return column ? column.v[column.i ? column.i[at] : 0] : "";
}

function keyOf(folder) {
  return folder.slice(folder.lastIndexOf("-") + 1);
}

// Whether every word of a query is in a text; "seed 3" is one word, and not seed 30.
function matches(text, query) {
  const low = `${text.toLowerCase()} `;
  const words = query.toLowerCase().replace(/seed[ =]*(\d+)/g, "seed=$1").split(/\s+/).filter(Boolean);
  return words.every((word) => low.includes(/^seed=\d/.test(word) ? `${word} ` : word));
}

// Places sorted by a value of each; null and "" are last in both directions.
function sortedBy(places, value, direction) {
  const of = new Map(places.map((at) => [at, value(at)]));
  const blank = (one) => one === null || one === "" || one === undefined;
  return [...places].sort((a, b) => {
    const [one, other] = [of.get(a), of.get(b)];
    if (blank(one) || blank(other)) return blank(one) - blank(other);
    return direction * (typeof one === "number" ? one - other : words.compare(one, other));
  });
}

// Names of a table's columns, apart: {same, different} among these rows.
function compared(table, places) {
  const names = Object.keys(table);
  const isSame = (name) => places.every((at) => textAt(table[name], at) === textAt(table[name], places[0]));
  return { same: names.filter(isSame), different: names.filter((name) => !isSame(name)) };
}

function csvOf(rows) {
  const cell = (value) => (/[",\n]/.test(String(value)) ? `"${String(value).replace(/"/g, '""')}"` : String(value));
  return rows.map((row) => row.map((value) => cell(value ?? "")).join(",") + "\n").join("");
}

class Trials {
  constructor(data, charts) {
    Object.assign(this, { data, charts, all: data.trials });
    this.places = this.all.folder.map((_, at) => at);
    this.replaced = new Set(this.all.replaced);
    this.chosen = new Set();
    this.sort = null;
    this.settings = new Map(); // group -> names of the settings in which its trials differ
    this.texts = [];
    this.columns = [
      ["Method", (at) => textAt(this.all.method, at)],
      ["Case", (at) => textAt(this.all.case, at)],
      ["Seed", (at) => this.all.seed[at]],
      [this.all.scores, (at) => this.all.score[at]],
      ["Images", (at) => this.all.images[at]],
      ["Seconds", (at) => this.all.seconds[at]],
      ["Status", (at) => textAt(this.all.status, at) + (this.replaced.has(at) ? ", a newer one counts" : "")],
      ["Settings", (at) => this.ownSettings(at)],
      ["Setting", (at) => this.all.groups[this.all.group[at]].heading],
      ["Started", (at) => textAt(this.all.started, at).replace("T", " ").replace(/\+0000$/, " UTC")],
    ].filter(([name, value]) => !["Case", "Settings", "Setting"].includes(name) || new Set(this.places.map(value)).size > 1);
  }

  ownSettings(at) {
    const group = this.all.group[at];
    if (!this.settings.has(group)) {
      const own = this.places.filter((other) => this.all.group[other] === group);
      this.settings.set(group, compared(this.all.settings, own).different.filter((name) => !SHOWN_ELSEWHERE.has(name)));
    }
    return this.settings.get(group).map((name) => `${name}=${textAt(this.all.settings[name], at)}`).join(", ");
  }

  textOf(at) {
    this.texts[at] ??= [this.all.folder[at], `seed=${this.all.seed[at]}`, ...this.columns.map(([, value]) => value(at))].join(" ");
    return this.texts[at];
  }

  addTo(place) {
    const query = make("input", { type: "search", id: "trial-search", placeholder: "method, seed 3, name=value, failed" });
    this.query = query;
    query.addEventListener("input", () => this.filter());
    const setting = this.choice("Setting", this.all.groups.map((group) => group.heading), (at) => this.all.group[at]);
    const statuses = this.all.status.v;
    const status = this.choice("Status", statuses, (at) => statuses.indexOf(textAt(this.all.status, at)));
    this.choices = [setting, status].filter(Boolean);
    this.count = make("output", { "aria-live": "polite" });
    this.compare = make("button", { type: "button", disabled: true, onclick: () => this.go([...this.chosen]) }, "Compare");
    const save = make("button", { type: "button", onclick: () => this.save() }, "CSV of this list");
    const bar = make("div", { className: "tools" }, make("label", {}, "Find ", query), ...this.choices.map((one) => one.label), this.compare, save, this.count);
    this.head = make("tr", {}, make("th", { scope: "col", className: "text" }, make("span", {}, "Compare")), ...this.columns.map((column, at) => this.header(column, at)));
    this.body = make("tbody");
    const caption = make("caption", { className: "hidden", id: "trial-caption" }, "All trials");
    const table = make("table", {}, caption, make("thead", {}, this.head), this.body);
    this.end = make("p", { className: "end" });
    place.append(bar, make("div", { className: "scroll", role: "region", tabIndex: 0, "aria-labelledby": "trial-caption" }, table), this.end);
    new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && this.more()).observe(this.end);
    this.filter();
  }

  choice(name, options, of) {
    if (options.length < 2) return null;
    const select = make("select", {}, make("option", { value: "" }, "all"), ...options.map((text, at) => make("option", { value: String(at) }, text)));
    select.addEventListener("change", () => this.filter());
    return { label: make("label", {}, `${name} `, select), holds: (at) => select.value === "" || Number(select.value) === of(at) };
  }

  header([name, value], place) {
    const isNumber = typeof this.places.map(value).find((one) => one !== null && one !== "") === "number";
    const th = make("th", { scope: "col", className: `${isNumber ? "number" : "text"}${place ? "" : " name"}`, "aria-sort": "none" });
    th.append(make("button", { type: "button", onclick: () => {
      const order = nextOrder(th.getAttribute("aria-sort"), isNumber);
      for (const other of this.head.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
      th.setAttribute("aria-sort", order);
      this.sort = order === "none" ? null : { value, direction: order === "ascending" ? 1 : -1 };
      this.filter();
    } }, name));
    return th;
  }

  filter() {
    const query = this.query.value;
    const kept = this.places.filter((at) => this.choices.every((one) => one.holds(at)) && (!query.trim() || matches(this.textOf(at), query)));
    this.rows = this.sort ? sortedBy(kept, this.sort.value, this.sort.direction) : kept;
    this.count.textContent = `${this.rows.length} of ${this.places.length} trials`;
    this.body.replaceChildren();
    this.made = 0;
    this.more();
  }

  more() {
    const next = this.rows.slice(this.made, this.made + CHUNK);
    this.body.append(...next.map((at) => this.row(at)));
    this.made += next.length;
    this.end.textContent = this.made < this.rows.length ? `${this.rows.length - this.made} more below` : "";
  }

  row(at) {
    const name = `${textAt(this.all.method, at)} seed ${this.all.seed[at]}`;
    const box = make("input", { type: "checkbox", checked: this.chosen.has(at), "aria-label": `Compare ${name}` });
    box.addEventListener("change", () => {
      if (box.checked) this.chosen.add(at);
      else this.chosen.delete(at);
      this.compare.disabled = !this.chosen.size;
      this.compare.textContent = this.chosen.size ? `Compare ${this.chosen.size}` : "Compare";
    });
    const cells = this.columns.map(([title, value], place) => {
      const one = value(at);
      if (!place) return make("th", { scope: "row", className: "text name" }, make("a", { href: this.address([at]) }, one));
      const shown = typeof one === "number" && title === this.all.scores ? one.toFixed(2) : typeof one === "number" ? one.toLocaleString("en") : one ?? "";
      const tone = title === "Status" ? { finished: "good", failed: "bad" }[one] || "quiet" : "";
      return make("td", { className: typeof one === "number" || one === null ? "number" : title === "Settings" ? "long" : "text" }, make("span", { className: tone }, shown));
    });
    return make("tr", {}, make("td", {}, box), ...cells);
  }

  save() {
    const names = Object.keys(this.all.settings);
    const head = [...this.columns.map(([name]) => name), "folder", ...names.map((name) => `settings.${name}`)];
    const rows = this.rows.map((at) => [...this.columns.map(([, value]) => value(at)), this.all.folder[at], ...names.map((name) => textAt(this.all.settings[name], at))]);
    const file = new Blob([csvOf([head, ...rows])], { type: "text/csv" });
    const link = make("a", { href: URL.createObjectURL(file), download: "trials.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // One trial or several ------------------------------------------------------------------------------------------

  address(places) {
    return `#trial=${places.map((at) => encodeURIComponent(keyOf(this.all.folder[at]))).join(",")}`;
  }

  go(places) {
    location.hash = this.address(places);
  }

  // Open what the address names, if it names trials; else close.
  follow() {
    const found = location.hash.match(/^#trial=(.+)$/);
    const keys = found ? found[1].split(",").map(decodeURIComponent) : [];
    const places = keys.map((key) => this.all.folder.findIndex((folder) => keyOf(folder) === key)).filter((at) => at >= 0);
    const dialog = document.getElementById("trial");
    if (!places.length) return dialog.close();
    dialog.replaceChildren(...this.contents(places, dialog));
    dialog.setAttribute("aria-labelledby", "trial-title");
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    this.drawCurves(dialog, places);
    return undefined;
  }

  nameOf(at) {
    return [textAt(this.all.method, at), textAt(this.all.case, at), `seed ${this.all.seed[at]}`].filter(Boolean).join(", ");
  }

  contents(places, dialog) {
    const title = places.length > 1 ? `${places.length} trials side by side` : this.nameOf(places[0]);
    const close = make("button", { type: "button", onclick: () => dialog.close() }, "Close");
    const facts = this.columns.filter(([name]) => name !== "Settings").map(([name, value]) => [name, places.map((at) => value(at) ?? "")]);
    facts.push(["Why", places.map((at) => textAt(this.all.reason, at))]);
    const parts = [make("div", { className: "dialog-head" }, make("h2", { id: "trial-title" }, title), close)];
    parts.push(this.grid("Trial", facts.filter(([, values]) => values.some((value) => value !== "")), places));
    for (const [table, name] of [[this.all.settings, "Settings"], [this.all.environment, "Environment"]]) {
      const { same, different } = compared(table, places);
      const lines = (names) => names.map((one) => [one, places.map((at) => textAt(table[one], at))]);
      const alone = places.length === 1;
      if (different.length) parts.push(this.grid(`${name} that differ${name === "Environment" ? "s" : ""}`, lines(different), places));
      const rest = this.grid(alone ? name : `${name}, the same in all`, lines(same).map(([one, values]) => [one, values.slice(0, 1)]), alone ? places : []);
      if (same.length) parts.push(make("details", { open: alone && name === "Settings" }, make("summary", {}, `${alone ? name : `${name}, the same in all`} (${same.length})`), rest));
    }
    parts.push(make("h3", {}, "Curves of every part"), make("div", { className: "figures curves" }));
    parts.push(make("h3", {}, "Images"), make("div", { className: "side" }, ...places.map((at) => this.picture(at))));
    parts.push(make("h3", {}, "Files"), ...places.map((at) => this.files(at)));
    return parts;
  }

  grid(caption, lines, places) {
    const head = make("tr", {}, make("th", { scope: "col", className: "text name" }, make("span", {}, caption)), ...(places.length ? places : [null]).map((at) => make("th", { scope: "col", className: "text" }, make("span", {}, at === null ? "" : this.nameOf(at)))));
    const body = lines.map(([name, values]) => make("tr", {}, make("th", { scope: "row", className: "text name" }, name), ...values.map((value) => make("td", { className: "long" }, String(value)))));
    return make("div", { className: "scroll", role: "region", tabIndex: 0, "aria-label": caption }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
  }

  sourceOf(at) {
    const folder = this.all.folder[at];
    const shown = document.querySelector(`figure[data-trial="${CSS.escape(keyOf(folder))}"] img`);
    if (shown) return shown.src;
    if (this.all.pictures[folder]) return this.all.pictures[folder];
    return textAt(this.all.files, at).includes("samples.png") ? `trials/${encodeURIComponent(folder)}/samples.png` : "";
  }

  picture(at) {
    const src = this.sourceOf(at);
    const caption = make("figcaption", {}, src ? this.nameOf(at) : `${this.nameOf(at)}: no images kept`);
    return make("figure", { className: "grid" }, src ? make("img", { src, alt: `Synthesised images of ${this.nameOf(at)}`, loading: "lazy" }) : null, caption);
  }

  files(at) {
    const folder = this.all.folder[at];
    const links = textAt(this.all.files, at).split(" ").filter(Boolean).map((name) => make("a", { href: `trials/${encodeURIComponent(folder)}/${name}` }, name));
    return make("p", { className: "files" }, `${folder}: `, ...links.flatMap((link) => [link, " "]));
  }

  drawCurves(dialog, places) {
    const place = dialog.querySelector(".curves");
    const own = places.map((at) => this.all.curves[this.all.folder[at]]);
    const parts = new Map();
    own.forEach((curves, number) => {
      for (const [kind, events] of Object.entries(curves || {})) {
        for (const [name, y] of Object.entries(events)) {
          if (name === "x") continue;
          const title = `${name} (${kind})`;
          if (!parts.has(title)) parts.set(title, []);
          parts.get(title).push({ m: `${number}`, n: this.nameOf(places[number]), x: events.x, y });
        }
      }
    });
    if (!parts.size) place.append(make("p", { className: "quiet" }, own.some(Boolean) ? "No curve was recorded." : "These curves are not on this page: see metrics.jsonl among the files."));
    const dashes = ["solid", "8px,4px", "2px,3px"];
    const colours = this.data.classes;
    const looks = Object.fromEntries(places.map((_, at) => [`${at}`, { colour: colours[at % 7], symbol: "circle", dash: dashes[Math.floor(at / 7) % 3] }]));
    for (const [title, series] of [...parts].sort(([one], [other]) => one.includes("(evaluation)") ? -1 : other.includes("(evaluation)") ? 1 : 0)) {
      const canvas = make("div", { className: "canvas", role: "img", "aria-label": title });
      place.append(make("figure", { className: "chart small" }, make("figcaption", {}, make("strong", {}, title)), canvas));
      const chart = { kind: "lines", y: "", views: [{ k: "", label: "Round" }], series };
      const { data, layout } = plotOf(chart, "", new Set(), { looks, classes: colours }, themeOf(this.charts.dark.matches));
      Plotly.newPlot(canvas, data, layout, CONFIG);
    }
    if (places.length > 1) place.before(make("p", { className: "key" }, ...places.flatMap((at, number) => [lookOf(looks[`${number}`]), ` ${this.nameOf(at)}  `])));
  }
}

if (typeof module !== "undefined") module.exports = { textAt, matches, sortedBy, compared, csvOf, keyOf };
