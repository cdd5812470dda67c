// The enlarged view: one frame, what is shown over its image, and why each of its obstacles is one.

const LAYERS = ["overlay", "probability", "mask", "truth", "image"];
const REASONS = [ // column of obstacles.csv, title
  ["track_id", "id"], ["state", "state"], ["score", "score"], ["area_px", "area, px"], ["box", "box x, y, w × h"],
  ["evidence", "evidence"], ["range_m", "range, m"], ["sigma_range_m", "± m"],
  ["nearest_class", "nearest class"], ["class_beneath", "class beneath"],
  ["max_prob", "max prob"], ["entropy", "entropy"], ["energy", "energy"], ["msp", "1 − max"],
];
const LEAST_LETTER_PX = 11; // of the ids, on the screen
let viewed = null, order = [], layer = "overlay"; // order: of previous and next

function openViewer(frame, among, wanted = "overlay") {
  viewed = frame;
  order = among;
  layer = wanted;
  showViewed();
  if (find("viewer").open) return;
  find("viewer").showModal();
  showObstacles(); // again: their letters follow the size on the screen
}

function step(by) {
  const at = order.indexOf(viewed) + by;
  if (at < 0 || at >= order.length) return;
  viewed = order[at];
  showViewed();
}

function showViewed() {
  const at = order.indexOf(viewed);
  find("viewer-title").textContent = nameOf(viewed) + "  (" + (at + 1) + " of " + order.length + ")";
  find("previous").disabled = at <= 0;
  find("next").disabled = at >= order.length - 1;
  find("viewer-figures").replaceChildren(...figuresOf(viewed));
  const stack = find("viewer-stack"), video = find("viewer-video"), panel = viewed.panel;
  stack.hidden = find("viewer-controls").hidden = !panel;
  video.hidden = Boolean(panel) || !viewed.video;
  if (panel) {
    stack.querySelector("img").src = "data:image/jpeg;base64," + panel.image;
    stack.querySelector("img").alt = "image of " + nameOf(viewed);
    stack.querySelector("canvas").width = 0;
    stack.style.width = "min(100%, calc(62vh * " + viewed.size[0] / viewed.size[1] + "))";
    if (layer === "truth" && !panel.truth) layer = "overlay";
  } else if (viewed.video) {
    const source = viewed.video.split("/").map(encodeURIComponent).join("/");
    if (video.getAttribute("src") !== source) video.src = source;
    video.load();
    seek(video, viewed);
  }
  for (const button of find("layers").children) {
    button.hidden = button.dataset.layer === "truth" && !(panel && panel.truth);
    button.setAttribute("aria-pressed", String(button.dataset.layer === layer));
  }
  showObstacles();
  redrawViewer();
}

function redrawViewer() {
  if (!viewed.panel) return;
  const stack = find("viewer-stack");
  stack.classList.toggle("dim", layer === "mask" || layer === "truth");
  draw(stack.querySelector("canvas"), viewed, layer);
}

function showObstacles() {
  const rows = viewed.rows || [], boxes = find("viewer-stack").querySelector("svg");
  boxes.replaceChildren();
  boxes.setAttribute("viewBox", "0 0 " + viewed.size.join(" "));
  boxes.setAttribute("preserveAspectRatio", "none");
  if (!rows.length) {
    find("why").replaceChildren(viewed.rows ? make("p", { class: "soft" }, "No obstacle in this frame.") : "");
    return;
  }
  const columns = REASONS.filter(([name]) => name === "box" || rows.some((row) => isKnown(row[name]) && row[name] !== ""));
  const body = make("tbody"), shown = find("viewer-stack").clientWidth || viewed.size[0];
  const letter = Math.max(viewed.size[0] / 60, LEAST_LETTER_PX * viewed.size[0] / shown); // in pixels of the image
  for (const row of rows) {
    const box = shape("rect", { x: row.left, y: row.top, width: row.width, height: row.height }, boxes);
    box.classList.toggle("coasting", row.state === "coasting");
    if (isKnown(row.track_id) && row.track_id !== "") {
      const place = { x: row.left, y: Math.max(row.top - 4, letter), "font-size": letter };
      shape("text", place, boxes).textContent = row.track_id;
    }
    const cells = columns.map(([name]) => make("td", {}, name === "box"
      ? row.left + ", " + row.top + ", " + row.width + " × " + row.height : String(isKnown(row[name]) ? row[name] : "")));
    const line = make("tr", { tabindex: "0" }, ...cells);
    for (const [event, chosen] of [["pointerenter", true], ["focus", true], ["pointerleave", false], ["blur", false]]) {
      line.addEventListener(event, () => {
        line.classList.toggle("chosen", chosen);
        box.classList.toggle("chosen", chosen);
      });
    }
    body.append(line);
  }
  const head = make("tr", {}, ...columns.map(([, title]) => make("th", { scope: "col" }, title)));
  const more = viewed.obstacles > rows.length ? ", the largest " + rows.length + " of " + viewed.obstacles : "";
  const found = "Obstacles above " + probabilityText(data.sets[viewed.set].found) + ", the threshold of the run" + more;
  find("why").replaceChildren(make("table", { class: "why" },
    make("caption", {}, found), make("thead", {}, head), body));
}

function setUpViewer() {
  for (const [at, name] of LAYERS.entries()) {
    const button = make("button", { type: "button", "data-layer": name, title: "key " + (at + 1) }, name);
    button.addEventListener("click", () => { layer = name; showViewed(); });
    find("layers").append(button);
  }
  find("previous").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));
  find("close").addEventListener("click", () => find("viewer").close());
  find("viewer").addEventListener("close", () => {
    find("viewer-video").pause();
    viewed = null;
    redraw("canvas");
  });
  find("viewer").addEventListener("click", (event) => { if (event.target === find("viewer")) find("viewer").close(); });
  find("viewer").addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const onSlider = event.target.type === "range", onVideo = event.target.tagName === "VIDEO";
    if (event.key === "ArrowLeft" && !onSlider && !onVideo) step(-1);
    else if (event.key === "ArrowRight" && !onSlider && !onVideo) step(1);
    else if (event.key === "+" || event.key === "=") moveThreshold(10);
    else if (event.key === "-") moveThreshold(-10);
    else if (LAYERS[Number(event.key) - 1]) find("layers").children[Number(event.key) - 1].click();
    else return;
    event.preventDefault();
  });
}
