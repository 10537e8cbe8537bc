// Asks every two seconds where trials stand, and offers newer results when there are any.
"use strict";
const byId = (id) => document.getElementById(id);
let shown = null;

function element(tag, text, changes = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, changes);
}

function lineOf(work) {
  const line = element("li", "");
  const bar = element("progress", "", { max: 1, ariaLabel: `progress of ${work.name}` });
  if (work.done !== null) bar.value = work.done;
  line.append(element("span", work.name), bar, element("span", work.text, { className: "said" }));
  return line;
}

function show(now) {
  byId("counts").textContent = now.counts;
  byId("running").replaceChildren(...now.running.map(lineOf));
  byId("failed").hidden = now.failed.length === 0;
  byId("failed").querySelector("summary").textContent = `${now.failed.length} failed`;
  byId("failed").querySelector("ul").replaceChildren(
    ...now.failed.map((work) => element("li", `${work.name}: ${work.text}`)));
  if (shown === null) shown = now.rendered;
  byId("newer").hidden = now.rendered === shown;
  byId("newer").onclick = () => {
    shown = now.rendered;
    byId("newer").hidden = true;
    byId("report").contentWindow.location.reload();
  };
}

async function ask() {
  try {
    const answer = await fetch("/live.json", { cache: "no-store" });
    show(await answer.json());
  } catch {
    byId("counts").textContent = "the server has ended; what is below stays as it is";
    byId("running").replaceChildren();
  }
  setTimeout(ask, 2000);
}

ask();
