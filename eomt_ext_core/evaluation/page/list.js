// The list of frames: filtered, sorted, and made as it is scrolled to.

const percent = (value) => (100 * value).toFixed(2) + " %";
const ofScore = (name) => (frame) => (frame.scores ? frame.scores[state.score][name] : null); // of the score chosen
const nameOf = (frame) => (data.sets.length > 1 ? data.sets[frame.set].name + " / " : "") + frame.id;
const COLUMNS = { // title, value, and how it is written
  rank: ["worst first", (frame) => frame.rank],
  time: ["time", (frame) => frame.time, (value) => value.toFixed(2) + " s"],
  name: ["name", nameOf],
  auprc: ["AuPRC", ofScore("auprc"), percent],
  fpr95: ["FPR95", ofScore("fpr95"), percent],
  recall: ["recall", ofScore("recall"), percent],
  falsePositives: ["false positives", ofScore("falsePositives"), percent],
  anomalous: ["anomalous px", (frame) => frame.anomalous, (value) => value.toLocaleString("en")],
  mask: ["mask", (frame) => frame.mask, percent],
  largest: ["largest probability", (frame) => frame.largest, probabilityText],
  obstacles: ["obstacles", (frame) => frame.obstacles, String],
  latency: ["latency", (frame) => frame.latency, (value) => value.toFixed(0) + " ms"],
};
const isKnown = (value) => value !== null && value !== undefined;
const SHOWN_AT_ONCE = 24;
let shown = []; // all frames that pass the filters, sorted; the first of them have cards
let numCards = 0;

function figuresOf(frame) {
  const parts = [];
  if (isKnown(frame.time)) parts.push(make("span", {}, "frame ", make("b", {}, String(frame.index))));
  for (const [title, value, text] of Object.values(COLUMNS)) {
    if (text && isKnown(value(frame))) parts.push(make("span", {}, title + " ", make("b", {}, text(value(frame)))));
  }
  if (frame.health) parts.push(make("span", {}, "camera ", make("b", {}, frame.health)));
  return parts;
}

function filter() {
  const text = find("text").value.trim().toLowerCase(), set = find("set").value, limit = Number(find("auprc").value);
  find("limit").textContent = limit + " %";
  const value = COLUMNS[find("sort").value][1], sign = find("reverse").getAttribute("aria-pressed") === "true" ? -1 : 1;
  shown = frames.filter((frame) =>
    nameOf(frame).toLowerCase().includes(text) && (set === "" || frame.set === Number(set)) &&
    (limit === 100 || (isKnown(COLUMNS.auprc[1](frame)) && 100 * COLUMNS.auprc[1](frame) <= limit)));
  const keys = new Map(shown.map((frame, at) => [frame, [value(frame), at]]));
  shown.sort((one, other) => {
    const [a, first] = keys.get(one), [b, second] = keys.get(other);
    if (!isKnown(a) || !isKnown(b)) return isKnown(b) - isKnown(a) || first - second; // unknown ones last, either way
    return sign * (a < b ? -1 : a > b ? 1 : first - second);
  });
  find("count").textContent = shown.length === frames.length ? frames.length : shown.length + " of " + frames.length;
  find("none").hidden = shown.length > 0;
  find("list").replaceChildren();
  numCards = 0;
  addCards();
}

function addCards() {
  const list = find("list");
  for (const frame of shown.slice(numCards, numCards + SHOWN_AT_ONCE)) list.append(card(frame));
  numCards = Math.min(shown.length, numCards + SHOWN_AT_ONCE);
  watchEnd.disconnect();
  if (numCards < shown.length) watchEnd.observe(list.lastElementChild);
}

function card(frame) {
  const name = make("button", { class: "name", type: "button" }, nameOf(frame));
  const element = make("article", { class: "card frame" },
    make("h3", {}, name), make("div", { class: "figures" }, ...figuresOf(frame)));
  name.addEventListener("click", () => openViewer(frame, shown));
  if (frame.panel) {
    const tiles = make("div", { class: "thumbnails" });
    for (const layer of ["image", ...(frame.panel.truth ? ["truth"] : []), "probability", "mask"]) {
      const dim = layer === "mask" || layer === "truth" ? " dim" : "";
      const image = make("img", { alt: layer + " of " + nameOf(frame), src: "data:image/jpeg;base64," + frame.panel.image });
      const stack = make("div", { class: "stack" + dim }, image);
      if (layer !== "image") stack.append(make("canvas", { "data-layer": layer, "aria-hidden": "true" }));
      stack.addEventListener("click", () => openViewer(frame, shown, layer));
      tiles.append(make("figure", {}, stack, make("figcaption", {}, layer)));
    }
    element.append(tiles);
  }
  element.frame = frame;
  watchCards.observe(element);
  return element;
}

function drawCard(element, layers = "canvas") {
  for (const canvas of element.querySelectorAll(layers)) draw(canvas, element.frame, canvas.dataset.layer);
}

// Only cards near the window have pixels.
const watchCards = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.isNear = isIntersecting;
    if (isIntersecting) drawCard(target);
    else for (const canvas of target.querySelectorAll("canvas")) canvas.width = canvas.height = 0;
  }
}, { rootMargin: "400px" });
const watchEnd = new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) addCards();
}, { rootMargin: "800px" });

// Draw anew what depends on the threshold, or all: at most once a picture of the screen, however fast a slider moves.
let redrawing = null;
function redraw(layers) {
  if (redrawing) { redrawing.layers = layers === redrawing.layers ? layers : "canvas"; return; }
  redrawing = { layers };
  requestAnimationFrame(() => {
    const wanted = redrawing.layers;
    redrawing = null;
    if (viewed) { redrawViewer(); return; } // the list is behind it, and drawn when it closes
    for (const element of find("list").children) if (element.isNear) drawCard(element, wanted);
  });
}
