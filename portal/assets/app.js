// What the portal does in the browser beside htmx: nothing that a page needs.
"use strict";

// The menu of narrow windows closes by Escape too.
document.addEventListener("keydown", e => {
  if (e.key !== "Escape" || location.hash !== "#side") return;
  location.hash = "main";
  document.querySelector("a.menu").focus();
});

// A button that copies what it names: data-copy="TEXT".
document.addEventListener("click", async e => {
  const b = e.target.closest("[data-copy]");
  if (!b) return;
  try {
    await navigator.clipboard.writeText(b.dataset.copy);
    const said = b.title;
    b.title = "Copied";
    b.classList.add("copied");
    setTimeout(() => { b.title = said; b.classList.remove("copied"); }, 1500);
  } catch { /* the text is there to be selected */ }
});

// A form is sent once.
document.addEventListener("submit", e => {
  if (e.defaultPrevented) return;
  const b = e.submitter;
  if (b) setTimeout(() => { b.disabled = true; }, 0);
});
addEventListener("pageshow", () => { for (const b of document.querySelectorAll("button:disabled")) if (!b.hasAttribute("data-off")) b.disabled = false; });

// A page that has changed in more than its live part is loaded again, unless somebody
// is writing on it.
document.addEventListener("stale", () => {
  const writing = [...document.querySelectorAll("main input:not([type=hidden]), main textarea")].some(f => f.value !== f.defaultValue);
  if (!writing) location.reload();
});

// What scrolls sideways can be reached by keyboard.
const reach = new ResizeObserver(changes => {
  for (const {target} of changes) {
    const e = target.closest(".wide");
    if (e && e.scrollWidth > e.clientWidth) e.tabIndex = 0; else e?.removeAttribute("tabindex");
  }
});
const watch = () => { for (const e of document.querySelectorAll(".wide, .wide > *")) reach.observe(e); };
watch();
document.addEventListener("htmx:after:swap", watch);

// What a filter has left is said to who does not see it: a line of the part that was
// exchanged, not all of its rows. What changes by itself has lines of its own.
document.addEventListener("htmx:after:swap", () => {
  const said = document.getElementById("announce");
  const text = [...document.querySelectorAll("main [data-say]")].filter(e => !e.closest("#live")).map(e => e.innerText.trim()).join(". ");
  if (said && said.textContent !== text) said.textContent = text;
});
