// What the theme makes in the browser is named, and what scrolls is reached by the keyboard.
addEventListener("load", () => setTimeout(() => {
  document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach(box => { box.tabIndex = 0 })
  document.querySelectorAll("nav.md-code__nav").forEach((nav, place) => nav.setAttribute("aria-label", `Code ${place + 1}`))
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search")
}, 0))
