// The time line of a recording: figures along its seconds; a click goes to the frame and to that second of its video.

const sequences = new Map(); // by set and name, frames in the order of their index
for (const frame of frames) {
  if (!frame.sequence) continue;
  const key = frame.set + " " + frame.sequence;
  if (!sequences.has(key)) sequences.set(key, []);
  sequences.get(key).push(frame);
}
for (const list of sequences.values()) list.sort((one, other) => one.index - other.index);

const STRIPS = ["mask", "largest", "obstacles", "latency"];
const COLUMNS_DRAWN = 800; // of a strip; each shows the largest value in it, so that no peak is lost
const SVG = document.querySelector("#viewer-stack svg").namespaceURI;
let current = []; // frames of the recording shown
let moment = 0;

function shape(tag, attributes, parent) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}

const timeSpan = () => [current[0].time, Math.max(current[current.length - 1].time, current[0].time + 1e-3)];
const placeOf = (time) => { const [start, end] = timeSpan(); return 1000 * (time - start) / (end - start); };

function showSequence(key) {
  current = sequences.get(key);
  const [start, end] = timeSpan();
  find("strips").replaceChildren();
  for (const name of STRIPS) {
    if (current.some((frame) => isKnown(COLUMNS[name][1](frame)))) addStrip(name);
  }
  if (current.some((frame) => frame.health)) addHealth();
  find("span").textContent = current.length.toLocaleString("en") + " frames, " + (end - start).toFixed(1) + " s";
  find("ticks").replaceChildren(...[0, 1, 2, 3, 4].map((step) =>
    make("span", {}, (start + (end - start) * step / 4).toFixed(end - start < 4 ? 2 : 1) + (step === 4 ? " s" : ""))));
  find("moment").max = current.length - 1;
  const video = find("video"), source = current[0].video;
  find("beside").hidden = !source;
  document.querySelector(".moment").classList.toggle("alone", !source);
  find("novideo").hidden = true;
  video.hidden = false;
  if (source) video.src = source.split("/").map(encodeURIComponent).join("/");
  showMoment(0);
}

function strip(title, label) {
  const value = make("b"), line = make("div", { class: "strip" }, make("span", {}, title, value));
  const svg = shape("svg", { viewBox: "0 0 1000 46", preserveAspectRatio: "none", role: "img", "aria-label": label }, line);
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); goTo(event, svg); });
  svg.addEventListener("pointermove", (event) => { if (event.buttons) goTo(event, svg); });
  find("strips").append(line);
  return [svg, value];
}

function addStrip(name) {
  const [title, value, text] = COLUMNS[name];
  const most = Math.max(...current.map((frame) => value(frame) || 0)) || 1;
  const [svg, output] = strip(title, title + " along the recording, at most " + text(most));
  output.after(make("i", {}, "at most " + text(most)));
  const columns = new Map();
  for (const frame of current) {
    const column = Math.round(placeOf(frame.time) * COLUMNS_DRAWN / 1000);
    columns.set(column, Math.max(columns.get(column) || 0, value(frame) || 0));
  }
  const height = (part) => (44 - 40 * part / most).toFixed(1);
  if (name === "largest") {
    const at = height(Math.min(most, probabilityOf(logitOf(data.sets[current[0].set].thresholds[scoreNames[0]]))));
    shape("line", { class: "at", x1: 0, x2: 1000, y1: at, y2: at }, svg);
  }
  const points = [...columns].map(([column, part]) => (column * 1000 / COLUMNS_DRAWN).toFixed(1) + "," + height(part));
  shape("polyline", { points: points.join(" ") }, svg);
  shape("line", { class: "cursor", y1: 0, y2: 46 }, svg);
  svg.closest(".strip").update = (frame) => { output.textContent = text(value(frame) || 0); };
}

function addHealth() {
  const [svg, output] = strip("camera", "health of the camera along the recording");
  for (let first = 0, at = 1; at <= current.length; at++) { // runs of one verdict
    if (at < current.length && current[at].health === current[first].health) continue;
    const from = placeOf(current[first].time), to = at < current.length ? placeOf(current[at].time) : 1000;
    const style = current[first].health === "well" ? "well" : "fault";
    const bar = shape("rect", { class: style, x: from, width: Math.max(to - from, 1), y: 14, height: 18 }, svg);
    shape("title", {}, bar).textContent = current[first].health;
    first = at;
  }
  shape("line", { class: "cursor", y1: 0, y2: 46 }, svg);
  svg.closest(".strip").update = (frame) => { output.textContent = frame.health; };
}

function goTo(event, svg) {
  const box = svg.getBoundingClientRect(), [start, end] = timeSpan();
  const time = start + (end - start) * Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  let low = 0, high = current.length - 1; // the frame nearest in time
  while (low < high) {
    const middle = (low + high) >> 1;
    if (current[middle].time < time) low = middle + 1; else high = middle;
  }
  if (low > 0 && time - current[low - 1].time < current[low].time - time) low -= 1;
  showMoment(low);
}

function showMoment(index) {
  moment = index;
  const frame = current[index], place = placeOf(frame.time);
  find("moment").value = index;
  find("moment").setAttribute("aria-valuetext", "frame " + frame.index + ", " + frame.time.toFixed(2) + " s");
  for (const line of find("strips").children) {
    line.update(frame);
    const cursor = line.querySelector(".cursor");
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
  }
  find("now").replaceChildren(make("span", {}, make("b", {}, nameOf(frame))), ...figuresOf(frame));
  seek(find("video"), frame);
}

// Go to the middle of a frame: at its edge, players show the one before or after.
function seek(video, frame) {
  if (!frame.video) return;
  const near = current.length > 1 ? Math.abs(current[1].videoTime - current[0].videoTime) / 2 : 0;
  const go = () => { video.currentTime = frame.videoTime + near; };
  if (video.readyState >= 1) go(); else video.addEventListener("loadedmetadata", go, { once: true });
}
