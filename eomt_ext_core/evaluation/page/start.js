// Controls of the page: theme, filters, score and threshold.

const SLIDERS = ["threshold", "viewer-threshold"];

function showThreshold() {
  const [low, high] = ranges[state.score] || [0, 1];
  const chosen = find("set").value, shown = data.sets[Number(chosen) || 0].thresholds[state.score];
  const logit = state.logit !== null ? state.logit : logitOf(shown);
  for (const id of SLIDERS) {
    find(id).value = 1000 * (logit - low) / Math.max(high - low, 1e-6);
    find(id).setAttribute("aria-valuetext", probabilityText(probabilityOf(logit)));
    find(id + "-text").textContent = probabilityText(probabilityOf(logit));
  }
  find("reset").disabled = state.logit === null;
  const isChosen = (frame) => chosen === "" || frame.set === Number(chosen);
  const judged = state.score === scoreNames[0] ? frames.filter((frame) => isKnown(frame.largest) && isChosen(frame)) : [];
  // Logits end before 1, which no probability is above.
  const cut = (frame) => state.logit !== null ? probabilityOf(state.logit) : data.sets[frame.set].thresholds[state.score];
  const above = judged.filter((frame) => frame.largest > cut(frame));
  find("above").textContent = judged.length ? above.length + " of " + judged.length + " frames are above it" : "";
  showScale(low, high, logit);
  showCut();
}

// The colours from low to high, with a mark at the threshold.
function showScale(low, high, logit) {
  const canvas = find("scale"), context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    const [red, green, blue] = data.colours[Math.round(255 * x / (canvas.width - 1))];
    context.fillStyle = "rgb(" + red + "," + green + "," + blue + ")";
    context.fillRect(x, 0, 1, 1);
  }
  const place = state.spread ? (logit - low) / Math.max(high - low, 1e-6) : probabilityOf(logit);
  context.fillStyle = "#fff";
  context.fillRect(Math.round(place * (canvas.width - 1)) - 1, 0, 3, 1);
  find("scale-low").textContent = state.spread ? probabilityText(probabilityOf(low)) : "0";
  find("scale-high").textContent = state.spread ? probabilityText(probabilityOf(high)) : "1";
}

function setThreshold(logit, layers = 'canvas[data-layer="mask"]') {
  state.logit = logit;
  showThreshold();
  redraw(layers);
}

function moveThreshold(by) {
  const slider = find("threshold"), [low, high] = ranges[state.score];
  setThreshold(low + (high - low) * Math.max(0, Math.min(1000, Number(slider.value) + by)) / 1000);
}

function setUp() {
  find("theme").addEventListener("click", () => {
    const root = document.documentElement;
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch (error) { /* a private window */ }
  });
  find("set").append(make("option", { value: "" }, "all sets"), ...data.sets.map((set, at) => make("option", { value: at }, set.name)));
  find("set").hidden = data.sets.length === 1;
  const hasTruth = frames.some((frame) => frame.panel && frame.panel.truth);
  for (const element of document.querySelectorAll("[data-truth]")) element.hidden = !hasTruth;
  find("auprc-label").hidden = !frames.some((frame) => isKnown(COLUMNS.auprc[1](frame)));
  for (const [name, [title, value]] of Object.entries(COLUMNS)) {
    if (frames.some((frame) => isKnown(value(frame)))) find("sort").append(make("option", { value: name }, title));
  }
  find("score").append(...scoreNames.map((name) => make("option", {}, name)));
  find("score-label").hidden = scoreNames.length < 2;
  find("reset").textContent = "Threshold " + (data.sets[0] ? data.sets[0].origin : "");

  for (const id of ["text", "set", "auprc", "sort"]) find(id).addEventListener("input", filter);
  find("set").addEventListener("input", () => setThreshold(null));
  find("reverse").addEventListener("click", (event) => {
    const isPressed = event.currentTarget.getAttribute("aria-pressed") === "true";
    event.currentTarget.setAttribute("aria-pressed", String(!isPressed));
    filter();
  });
  find("score").addEventListener("input", () => { state.score = find("score").value; setThreshold(null, "canvas"); filter(); });
  find("spread").addEventListener("input", () => { state.spread = find("spread").checked; showThreshold(); redraw("canvas"); });
  find("reset").addEventListener("click", () => setThreshold(null));
  for (const id of SLIDERS) {
    find(id).addEventListener("input", (event) => {
      const [low, high] = ranges[state.score];
      setThreshold(low + (high - low) * Number(event.target.value) / 1000);
    });
  }
  if (sequences.size) {
    find("timeline").hidden = false;
    find("sequence").append(...[...sequences].map(([key, list]) => make("option", { value: key }, list[0].sequence)));
    find("sequence").hidden = sequences.size === 1;
    find("sequence").addEventListener("input", () => showSequence(find("sequence").value));
    find("moment").addEventListener("input", () => showMoment(Number(find("moment").value)));
    find("open").addEventListener("click", () => openViewer(current[moment], current));
    find("video").addEventListener("error", () => { find("video").hidden = true; find("novideo").hidden = false; });
    showSequence(sequences.keys().next().value);
  }
  find("frames").hidden = !frames.length;
  setUpViewer();
  if (scoreNames.length) showThreshold();
  filter();
}

setUp();
