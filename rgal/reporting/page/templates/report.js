// What the page does once it is there.

function addZoom() {
  const zoom = make("dialog", { id: "zoom" }, make("button", { type: "button", onclick: () => zoom.close() }, "Close"), make("img", { alt: "" }));
  zoom.addEventListener("click", (event) => event.target !== zoom.firstChild && zoom.close());
  document.body.append(zoom);
  document.addEventListener("click", (event) => {
    const image = event.target.closest && event.target.closest("figure img");
    if (!image) return;
    Object.assign(zoom.lastChild, { src: image.src, alt: image.alt });
    zoom.showModal();
  });
}

// A closed list would be missing on paper, and a dark figure unreadable.
function addPrinting(charts) {
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")];
    for (const list of closed) list.open = true;
    for (const figure of document.querySelectorAll("main figure.chart")) if (!charts.drawn.has(figure)) charts.draw(figure);
    charts.again(themeOf(false));
  });
  window.addEventListener("afterprint", () => {
    for (const list of closed) list.open = false;
    charts.again();
  });
}

// The text that an element holds compressed.
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// What a reader of an old browser is told: the rest of the page is there.
function tellOldBrowser() {
  const text = "This browser is too old to unpack the figures and the list of trials (it takes Chrome 80, Firefox 113 or Safari 16.4). All tables are below, and the figures are files in plots/.";
  document.getElementById("main").prepend(make("p", { className: "verdict", id: "old-browser", role: "status" }, text));
}

async function start() {
  sortTables();
  if (typeof DecompressionStream === "undefined") return tellOldBrowser();
  const [text, library] = await Promise.all([unpacked("data"), unpacked("library")]);
  const data = JSON.parse(text);
  document.head.append(make("script", { textContent: library }));
  showData(data);
  document.documentElement.dataset.ready = "true";
  return undefined;
}

function showData(data) {
  const charts = new Charts(data);
  charts.addMethods(document.getElementById("method-buttons"));
  document.getElementById("methods").open = window.innerWidth > 800;
  addZoom();
  addPrinting(charts);
  const list = document.getElementById("trial-list");
  if (!list) return;
  const trials = new Trials(data, charts);
  trials.addTo(list);
  window.addEventListener("hashchange", () => trials.follow());
  document.getElementById("trial").addEventListener("close", () => {
    if (location.hash.startsWith("#trial=")) history.replaceState(null, "", "#trials");
  });
  if (location.hash.startsWith("#trial=")) trials.follow();
}

start();
