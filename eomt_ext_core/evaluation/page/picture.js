"use strict";

// The data of the page, and the pictures of frames. A score is stored as 8-bit levels, which are equal steps of the
// logit from `low` to `high`: see panels.py. Colours and masks are made here, for the score and threshold chosen.

const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const frames = data.frames.map((frame, rank) => Object.assign(frame, { rank })); // the worst first
const scoreNames = data.sets.flatMap((set) => set.scores).filter((name, at, all) => all.indexOf(name) === at);
const state = { score: scoreNames[0], logit: null, spread: false }; // logit: of the slider; null: each set's own

const probabilityOf = (logit) => 1 / (1 + Math.exp(-logit));
const logitOf = (probability) => Math.max(-16, Math.min(16, Math.log(probability / (1 - probability))));

// Lowest and highest logit of a score in all pictures.
const ranges = Object.fromEntries(scoreNames.map((name) => {
  const levels = frames.flatMap((frame) => (frame.panel && frame.panel.levels[name] ? [frame.panel.levels[name]] : []));
  return [name, [Math.min(...levels.map((each) => each[0])), Math.max(...levels.map((each) => each[1]))]];
}));

// As a logit: of the slider, if it moved for this score, else of the frame's set.
const thresholdOf = (frame, score = state.score) =>
  (state.logit !== null && score === state.score ? state.logit : logitOf(data.sets[frame.set].thresholds[score]));

function probabilityText(probability) {
  if (probability > 0.999999) return "1";
  if (probability > 0.9995) return "1 − " + (1 - probability).toExponential(1);
  return probability < 0.0005 && probability > 0 ? probability.toExponential(1) : probability.toFixed(3);
}

const shapes = new Map(); // newest last: pictures that were decoded, as bytes
async function pixelsOf(png) {
  if (!shapes.has(png)) {
    const image = new Image();
    image.src = "data:image/png;base64," + png;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const rgba = context.getImageData(0, 0, image.width, image.height).data;
    const values = new Uint8Array(rgba.length / 4);
    for (let at = 0; at < values.length; at++) values[at] = rgba[4 * at];
    shapes.set(png, { width: image.width, height: image.height, values });
    if (shapes.size > 150) shapes.delete(shapes.keys().next().value);
  }
  return shapes.get(png);
}

const pack = ([red, green, blue], alpha = 255) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

// Packed colour of each level: over probabilities from 0 to 1, or spread evenly over the logits of the score. In the
// overlay, what is more probable covers more of the image.
function coloursOf(low, high, isOverlay) {
  const [least, most] = ranges[state.score];
  return Uint32Array.from({ length: 256 }, (_, level) => {
    const logit = low + (high - low) * level / 255;
    const place = state.spread ? (logit - least) / Math.max(most - least, 1e-6) : probabilityOf(logit);
    return pack(data.colours[Math.round(255 * Math.max(0, Math.min(1, place)))], isOverlay ? 190 * place : 255);
  });
}

// Draw a layer of a frame into a canvas over its image: overlay, probability, mask, truth, or image, which is nothing.
async function draw(canvas, frame, layer) {
  const token = (canvas.token = {}); // a later call overtakes this one
  if (layer === "image") { canvas.width = 0; return; }
  const { levels, truth } = frame.panel, [low, high, png] = levels[state.score];
  const [{ width, height, values }, labels] = await Promise.all([pixelsOf(png), truth ? pixelsOf(truth) : null]);
  if (canvas.token !== token) return;
  const context = canvas.getContext("2d"), result = new ImageData(width, height);
  const pixels = new Uint32Array(result.data.buffer), cut = 255 * (thresholdOf(frame) - low) / Math.max(high - low, 1e-6);
  if (layer === "mask" || layer === "truth") {
    for (let at = 0; at < values.length; at++) pixels[at] = colourOfMask(values[at] > cut, labels && labels.values[at], layer);
  } else {
    const colours = coloursOf(low, high, layer === "overlay");
    for (let at = 0; at < values.length; at++) pixels[at] = colours[values[at]];
    if (layer === "overlay") outline(pixels, values, cut, width);
  }
  canvas.width = width;
  canvas.height = height;
  context.putImageData(result, 0, 0);
}

function colourOfMask(isMarked, label, layer) {
  if (label === 255) return VOID;
  if (layer === "truth") return label === 1 ? ANOMALOUS : 0;
  if (label === 1) return isMarked ? FOUND : MISSED;
  if (!isMarked) return 0;
  return label === null ? ANOMALOUS : FALSE;
}

function outline(pixels, values, cut, width) {
  for (let at = 0; at < values.length; at++) {
    const isInside = values[at - 1] > cut && values[at + 1] > cut && values[at - width] > cut && values[at + width] > cut;
    if (values[at] > cut && !isInside) pixels[at] = WHITE;
  }
}

const WHITE = pack([255, 255, 255]), FOUND = pack([64, 200, 120]), FALSE = pack([255, 96, 80]), MISSED = pack([72, 140, 255]);
const ANOMALOUS = pack([255, 176, 32]), VOID = pack([112, 116, 122], 160);

// Make an element: make("p", { class: "soft" }, "text", otherElement).
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
