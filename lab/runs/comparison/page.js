"use strict";
const tables = JSON.parse(document.getElementById("data").textContent);
const COLOURS = 10, tip = document.getElementById("tip");
const shade = place => `var(--c${place % COLOURS})`;
const dash = place => ["none", "7 4", "2 4"][Math.floor(place / COLOURS) % 3];

/* Numbers as people read them. */
function short(value) {
  const size = Math.abs(value);
  for (const [power, prefix] of [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= 0.9995 * power) return trimmed(value / power) + " " + prefix;
  return size && size < 1e-4 ? value.toExponential(1) : trimmed(value);
}
const trimmed = value => String(+value.toPrecision(3)).replace("-", "−");
const even = found => {  // as many decimals for all as the finest needs
  const decimals = Math.max(0, ...found.map(tick => (String(tick).split(".")[1] ?? "").length));
  return found.map(tick => Math.abs(tick) < 1000 && decimals < 5 ? tick.toFixed(decimals).replace("-", "−") : short(tick));
};
const exact = value => value.toFixed(Math.abs(value) < 0.01 ? 6 : 4).replace("-", "−");

/* SVG elements, whose text is never read as markup. */
function node(parent, kind, attributes = {}, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

/* Round numbers within a range; on a logarithmic axis the powers of ten, or ones, twos and fives. */
function ticks([low, high], log, most) {
  if (log) {
    const decades = Math.log10(high / low), units = decades > 3 ? [1] : [1, 2, 5], found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const unit of units) if (unit * 10 ** power >= low && unit * 10 ** power <= high) found.push(unit * 10 ** power);
    if (found.length > 2) return found;
  }
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(unit => unit * power).find(unit => unit >= rough);
  const found = [];
  for (let place = Math.ceil(low / step); place * step <= high + 1e-9 * step; place++) found.push(+(place * step).toPrecision(12));
  return found;
}

/* An empty chart with its axes: where data goes (`x`, `y`), and where it is drawn (`plot`). */
function frame(chart, {x, y, left = 52, right = 14, top = 10, bottom = 44}) {
  const width = chart.clientWidth, height = chart.clientHeight;
  chart.replaceChildren();
  const svg = node(chart, "svg", {viewBox: `0 0 ${width} ${height}`, role: "img"});
  const position = ({range: [low, high], log}, from, to) => value => log
    ? from + (to - from) * Math.log(value / low) / Math.log(high / low)
    : from + (to - from) * (value - low) / (high - low);
  const at = {x: position(x, left, width - right), y: position(y, height - bottom, top)};
  const levels = ticks(y.range, y.log, height / 60), said = even(levels);
  for (const [place, tick] of levels.entries()) {
    node(svg, "line", {class: "gridline", x1: left, x2: width - right, y1: at.y(tick), y2: at.y(tick)});
    node(svg, "text", {x: left - 8, y: at.y(tick), "text-anchor": "end", "dominant-baseline": "central"}, said[place]);
  }
  const columns = ticks(x.range, x.log, width / 110), written = even(columns);
  let free = -Infinity;
  for (const [each, tick] of columns.entries()) {
    const place = at.x(tick);
    node(svg, "line", {class: "gridline", x1: place, x2: place, y1: top, y2: height - bottom});
    if (place < free) continue;
    free = place + 52;
    node(svg, "text", {x: place, y: height - bottom + 17, "text-anchor": "middle"}, written[each]);
  }
  node(svg, "line", {class: "base", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom});
  node(svg, "text", {class: "title", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle"}, x.title);
  node(svg, "text", {class: "title", x: 0, y: 0, "text-anchor": "middle", transform: `translate(11 ${(top + height - bottom) / 2}) rotate(-90)`}, y.title);
  const clip = `clip${++clips}`, inside = {x: left, y: top, width: width - left - right, height: height - top - bottom};
  node(node(svg, "clipPath", {id: clip}), "rect", inside);
  const plot = node(svg, "g", {"clip-path": `url(#${clip})`});
  return {svg, plot, x: at.x, y: at.y, width, height, inside};
}
let clips = 0;
const path = points => points.map(([x, y], place) => `${place ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/* Widened by a share at both ends. */
function padded(values, share, log) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log) { const by = Math.max((high / low) ** share, 1.02); return [low / by, high * by]; }
  const by = share * (high - low) || 0.05 * Math.abs(high) || 0.1;
  return [low - by, high + by];
}

function showTip(event, heading, rows) {
  tip.replaceChildren();
  const head = document.createElement("b");
  head.textContent = heading;
  tip.append(head, ...rows.map(([colour, label, value]) => {
    const row = document.createElement("div"), mark = document.createElement("i");
    mark.style.background = colour;
    const [name, number] = [label, value].map(text => Object.assign(document.createElement("span"), {textContent: text}));
    row.append(mark, name, number);
    return row;
  }));
  tip.hidden = false;
  const box = tip.getBoundingClientRect(), gap = 14;
  const left = event.clientX + gap + box.width > innerWidth ? event.clientX - gap - box.width : event.clientX + gap;
  tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, Math.min(event.clientY + gap, innerHeight - box.height - 4))}px)`;
}
const hideTip = () => { tip.hidden = true; };

const chosen = (section, kind) => section.querySelector(`input[data-switch="${kind}"]:checked`)?.value;
const shown = section => new Set([...section.querySelectorAll('.chip[aria-pressed="true"]')].map(chip => +chip.dataset.configuration));
const zooms = new Map();

/* The first steps fall steeply and would flatten what matters: the range begins where a sixth of the training is done. */
function settled(curves) {
  const late = curves.map(({curve}) => Math.max(...curve.high.slice(Math.floor(curve.high.length / 6))));
  return padded([Math.min(...curves.flatMap(({curve}) => curve.low)), Math.max(...late)], 0.06);
}

function drawCurves(section, table, chart) {
  const along = chosen(section, "x"), what = chosen(section, "y"), visible = shown(section);
  const curves = table.configurations.flatMap(({label, curves}, place) =>
    visible.has(place) && curves[what]?.[along] ? [{label, place, curve: curves[what], xs: curves[what][along]}] : []);
  if (!curves.length) return chart.replaceChildren();
  const zoom = zooms.get(chart), all = {x: padded(curves.flatMap(({xs}) => [xs[0], xs.at(-1)]), 0), y: settled(curves)};
  const {x: xRange, y: yRange} = zoom?.key === along + what ? zoom : all;
  const at = frame(chart, {right: 30, x: {range: xRange, title: table.xTitles[along]},
    y: {range: yRange, title: what === table.measure ? table.measureTitle : what}});
  for (const {curve, xs, place} of curves) {
    const edge = side => xs.map((x, step) => [at.x(x), at.y(curve[side][step])]);
    node(at.plot, "path", {class: "band", fill: shade(place), d: path([...edge("high"), ...edge("low").reverse()]) + "Z"});
  }
  for (const {curve, xs, place} of curves) {
    const points = xs.map((x, step) => [at.x(x), at.y(curve.mean[step])]);
    node(at.plot, "path", {class: "line", stroke: shade(place), "stroke-dasharray": dash(place), d: path(points)});
    if (points.length < 14) for (const [cx, cy] of points) node(at.plot, "circle", {cx, cy, r: 3, fill: shade(place)});
  }
  tagEnds(at, curves);
  follow(chart, at, curves, along);
  zoomBy(chart, at, xRange, yRange, along + what, () => drawCurves(section, table, chart));
}

/* The number of each curve at its end, moved apart where they would cover each other. */
function tagEnds(at, curves) {
  const tags = curves.map(({curve, place}) => ({place, y: at.y(curve.mean.at(-1))}))
    .filter(({y}) => y > 0 && y < at.inside.y + at.inside.height).sort((one, other) => one.y - other.y);
  tags.forEach((tag, place) => { if (place) tag.y = Math.max(tag.y, tags[place - 1].y + 17); });
  const over = tags.length ? tags.at(-1).y - (at.inside.y + at.inside.height) : 0;
  if (over > 0) tags.at(-1).y -= over;
  for (let place = tags.length - 2; place >= 0; place--) tags[place].y = Math.min(tags[place].y, tags[place + 1].y - 17);
  for (const {place, y} of tags) {
    node(at.svg, "circle", {cx: at.width - 12, cy: y, r: 9, fill: shade(place)});
    node(at.svg, "text", {class: "tag", x: at.width - 12, y}, place + 1);
  }
}

/* Under the pointer: a rule and the value of every curve there, the best first. */
function follow(chart, at, curves, along) {
  const rule = node(at.svg, "line", {class: "rule", y1: at.inside.y, y2: at.inside.y + at.inside.height, visibility: "hidden"});
  at.svg.onpointermove = event => {
    const x = event.clientX - chart.getBoundingClientRect().left;
    if (x < at.inside.x || x > at.inside.x + at.inside.width) return at.svg.onpointerleave();
    const longest = curves.reduce((one, other) => other.xs.length > one.xs.length ? other : one).xs;
    const near = longest.reduce((best, value) => Math.abs(at.x(value) - x) < Math.abs(at.x(best) - x) ? value : best);
    const rows = curves.map(({label, place, curve, xs}) => {
      const step = xs.reduce((best, value, each) => Math.abs(value - near) < Math.abs(xs[best] - near) ? each : best, 0);
      return [shade(place), `${place + 1}  ${label}`, exact(curve.mean[step]), curve.mean[step]];
    }).sort((one, other) => one[3] - other[3]);
    rule.setAttribute("visibility", "visible");
    rule.setAttribute("x1", at.x(near));
    rule.setAttribute("x2", at.x(near));
    showTip(event, `${short(near)} ${along}`, rows.slice(0, 14));
  };
  at.svg.onpointerleave = () => { rule.setAttribute("visibility", "hidden"); hideTip(); };
}

/* A rectangle drawn with the mouse becomes the range; a double click takes it back. */
function zoomBy(chart, at, xRange, yRange, key, redraw) {
  const place = event => { const box = chart.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  const value = ([low, high], from, to, at) => low + (high - low) * (at - from) / (to - from);
  let start, pick;
  at.svg.onpointerdown = event => {
    if (event.pointerType !== "mouse" || event.button) return;
    start = place(event);
    pick = node(at.svg, "rect", {class: "pick", width: 0, height: 0});
    at.svg.setPointerCapture(event.pointerId);
  };
  at.svg.addEventListener("pointermove", event => {
    if (!start) return;
    const end = place(event);
    for (const [side, size, axis] of [["x", "width", 0], ["y", "height", 1]]) {
      pick.setAttribute(side, Math.min(start[axis], end[axis]));
      pick.setAttribute(size, Math.abs(start[axis] - end[axis]));
    }
  });
  at.svg.onpointerup = event => {
    if (!start) return;
    const end = place(event), [x0, x1] = [start[0], end[0]].sort((a, b) => a - b), [y0, y1] = [start[1], end[1]].sort((a, b) => a - b);
    start = undefined;
    pick.remove();
    if (x1 - x0 < 8 || y1 - y0 < 8) return;
    const {x, y, width, height} = at.inside;
    zooms.set(chart, {key, x: [value(xRange, x, x + width, x0), value(xRange, x, x + width, x1)],
      y: [value(yRange, y + height, y, y1), value(yRange, y + height, y, y0)]});
    redraw();
  };
  at.svg.ondblclick = () => { zooms.delete(chart); redraw(); };
}

function drawCost(section, table, chart) {
  const cost = chosen(section, "cost"), visible = shown(section), down = table.direction === "min";
  const points = table.configurations.map((each, place) => ({...each, place, x: each.cost[cost]})).filter(({x}) => x != null);
  if (!points.length) return chart.replaceChildren();
  const spent = points.map(point => point.x), log = Math.min(...spent) > 0 && Math.max(...spent) > 20 * Math.min(...spent);
  let x = padded(spent, log ? 0.06 : 0.12, log);
  if (x[1] - x[0] < 0.03 * x[1]) x = [0.95 * x[1], 1.05 * x[1]];  // no drama where costs are equal
  const at = frame(chart, {x: {range: x, log, title: table.costTitles[cost]},
    y: {range: padded(points.flatMap(({mean, sd}) => [mean - sd, mean + sd]), 0.08), title: table.measureTitle}});
  const front = points.filter(({fronts}) => fronts.includes(cost)).sort((one, other) => one.x - other.x);
  const steps = front.flatMap((point, place) => place ? [[at.x(point.x), at.y(front[place - 1].mean)], [at.x(point.x), at.y(point.mean)]] : [[at.x(point.x), at.y(point.mean)]]);
  if (front.length) node(at.plot, "path", {class: "front", d: path([[at.x(front[0].x), at.inside.y + (down ? 0 : at.inside.height)], ...steps, [at.width, at.y(front.at(-1).mean)]])});
  const taken = [];
  for (const {place, x, mean, sd, label, fronts} of points) {
    const [own, cy] = [at.x(x), at.y(mean)], best = fronts.includes(cost), group = node(at.svg, "g");
    group.onpointermove = event => showTip(event, label, [[shade(place), table.measureTitle, `${exact(mean)} ± ${exact(sd)}`],
      [shade(place), table.costTitles[cost], short(x)], ...(best ? [[shade(place), "on the Pareto front", ""]] : [])]);
    group.onpointerleave = hideTip;
    if (!visible.has(place)) { node(group, "circle", {cx: own, cy, r: best ? 5 : 4, fill: shade(place), opacity: best ? 1 : .45}); continue; }
    let cx = own;
    while (taken.some(([left, top]) => Math.hypot(left - cx, top - cy) < 20)) cx -= 25;  // beside what would cover it
    taken.push([cx, cy]);
    if (cx !== own) node(group, "line", {x1: cx, x2: own, y1: cy, y2: cy, stroke: shade(place), "stroke-width": 1.5});
    if (sd) node(group, "line", {x1: own, x2: own, y1: at.y(mean - sd), y2: at.y(mean + sd), stroke: shade(place), "stroke-width": 2, opacity: .65});
    if (best) node(group, "circle", {cx, cy, r: 15, fill: "none", stroke: shade(place), "stroke-width": 1.6});
    node(group, "circle", {cx, cy, r: 11.5, fill: shade(place)});
    node(group, "text", {class: "tag", x: cx, y: cy}, place + 1);
  }
}

function drawScaling(section, table, chart) {
  const {variants, title, seen} = table.scaling, points = variants.flatMap(each => each.points), lines = variants.flatMap(each => each.line);
  const at = frame(chart, {x: {range: padded([...points, ...lines].map(point => point[0]), 0.04, true), log: true, title},
    y: {range: padded([...points.flatMap(([, mean, sd]) => [mean - sd, mean + sd]), ...lines.map(point => point[1])], 0.08, true), log: true, title: table.measureTitle}});
  variants.forEach(({name, points, line}, place) => {
    const spot = ([x, y]) => [at.x(x), at.y(y)], within = line.filter(([x]) => x <= seen), beyond = line.filter(([x]) => x >= seen);
    if (within.length) node(at.plot, "path", {class: "line", stroke: shade(place), d: path(within.map(spot))});
    else node(at.plot, "path", {class: "line", stroke: shade(place), opacity: .5, d: path(points.map(spot))});
    if (beyond.length) node(at.plot, "path", {class: "line", stroke: shade(place), "stroke-dasharray": "2 5", d: path([...within.slice(-1), ...beyond].map(spot))});
    for (const [x, mean, sd] of points) {
      const [cx, cy] = spot([x, mean]);
      if (sd) node(at.plot, "line", {x1: cx, x2: cx, y1: at.y(mean - sd), y2: at.y(mean + sd), stroke: shade(place), "stroke-width": 2});
      const dot = node(at.plot, "circle", {cx, cy, r: 5, fill: shade(place)});
      dot.onpointermove = event => showTip(event, name, [[shade(place), `at ${short(x)} ${title}`, exact(mean)]]);
      dot.onpointerleave = hideTip;
    }
  });
}

/* One vertical axis a hyperparameter and one for the measure, one line a configuration; parts of an axis may be picked. */
function drawParallel(section, table, chart) {
  const measured = {name: table.measureTitle, values: table.configurations.map(each => each.mean), log: false, last: true};
  const axes = [...table.hyperparameters, measured], height = chart.clientHeight - 14, top = 34, bottom = height - 10;
  const width = Math.max(chart.clientWidth, 104 * axes.length);  // a narrow screen scrolls
  chart.replaceChildren();
  const svg = node(chart, "svg", {viewBox: `0 0 ${width} ${height}`, role: "img", style: `width: ${width}px; height: ${height}px`}), lines = node(svg, "g");
  axes.forEach((axis, place) => {
    axis.x = 30 + place * (width - 100) / (axes.length - 1);
    axis.words = typeof axis.values[0] === "string" ? [...new Set(axis.values)] : null;
    const range = axis.words ? [-0.5, axis.words.length - 0.5] : padded(axis.values, 0.03, axis.log), scale = axis.log ? Math.log : value => value;
    axis.y = value => bottom - (bottom - top) * (scale(value) - scale(range[0])) / (scale(range[1]) - scale(range[0]));
    axis.at = configuration => axis.y(axis.words ? axis.words.indexOf(axis.values[configuration]) : axis.values[configuration]);
    const few = new Set(axis.values);
    if (!axis.words && !axis.last && few.size <= 6) axis.marks = [...few].map(value => [short(value), axis.y(value)]);
    else if (axis.words) axis.marks = axis.words.map((word, each) => [word, axis.y(each)]);
    else {
      const found = ticks(range, axis.log, 6), said = even(found);
      axis.marks = found.map((tick, each) => [said[each], axis.y(tick)]);
    }
  });
  const ranked = [...measured.values].sort((one, other) => table.direction === "min" ? other - one : one - other);
  const goodness = value => Math.round(100 * ranked.indexOf(value) / Math.max(1, ranked.length - 1));
  const drawn = table.configurations.map((configuration, place) => {
    const line = node(lines, "path", {class: "line", d: smooth(axes.map(axis => [axis.x, axis.at(place)])), stroke: `color-mix(in oklab, var(--best) ${goodness(configuration.mean)}%, var(--worst))`});
    line.onpointermove = event => { line.classList.add("lit"); showTip(event, configuration.label, [[line.getAttribute("stroke"), table.measureTitle, exact(configuration.mean)]]); };
    line.onpointerleave = () => { line.classList.remove("lit"); hideTip(); };
    return line;
  });
  table.apart.forEach(({label, status}, each) => {  // no result: a line that ends before the measure
    const place = table.configurations.length + each;
    const line = node(lines, "path", {class: `line apart ${status}`, d: smooth(axes.slice(0, -1).map(axis => [axis.x, axis.at(place)]))});
    line.onpointermove = event => { line.classList.add("lit"); showTip(event, label, [["var(--few)", status, ""]]); };
    line.onpointerleave = () => { line.classList.remove("lit"); hideTip(); };
    drawn.push(line);
  });
  const sift = () => drawn.forEach((line, place) => line.classList.toggle("out",
    axes.some(axis => axis.picked && !(axis.at(place) >= axis.picked[0] && axis.at(place) <= axis.picked[1]))));
  const gap = axes[1].x - axes[0].x;
  for (const axis of axes) {
    node(svg, "line", {class: "base", x1: axis.x, x2: axis.x, y1: top, y2: bottom, "stroke-width": 1.5});
    for (const [text, y] of axis.marks) node(svg, "text", {x: axis.x + 7, y, "dominant-baseline": "central", style: "paint-order: stroke; stroke: var(--panel); stroke-width: 4px"}, clipped(text, gap - 14));
    const title = node(svg, "text", {class: "title", x: axis.last ? width - 4 : axis === axes[0] ? 0 : axis.x, y: 14, "text-anchor": axis.last ? "end" : axis === axes[0] ? "start" : "middle"}, clipped(axis.name, gap - 6));
    node(title, "title", {}, axis.name);
    brush(svg, axis, top, bottom, sift);
  }
}
function smooth(points) {
  const bends = points.slice(1).map(([x, y], each) => { const [x0, y0] = points[each], middle = (x + x0) / 2; return `C${middle} ${y0} ${middle} ${y} ${x} ${y}`; });
  return path(points.slice(0, 1)) + bends.join("");
}
const clipped = (text, room) => text.length * 6.6 > room ? text.slice(0, Math.max(3, Math.floor(room / 6.6) - 1)) + "…" : text;

function brush(svg, axis, top, bottom, sift) {
  const box = node(svg, "rect", {class: "pick", x: axis.x - 7, width: 14, height: 0, y: top});
  const hit = node(svg, "rect", {class: "hit", x: axis.x - 12, width: 24, y: top, height: bottom - top, style: "touch-action: none"});
  const height = event => Math.min(bottom, Math.max(top, event.clientY - svg.getBoundingClientRect().top));
  let start;
  hit.onpointerdown = event => { start = height(event); axis.picked = null; hit.setPointerCapture(event.pointerId); box.setAttribute("height", 0); sift(); };
  hit.onpointermove = event => {
    if (start === undefined) return;
    const ends = [start, height(event)].sort((one, other) => one - other);
    axis.picked = ends[1] - ends[0] > 4 ? ends : null;
    box.setAttribute("y", ends[0]);
    box.setAttribute("height", axis.picked ? ends[1] - ends[0] : 0);
    sift();
  };
  hit.onpointerup = () => { start = undefined; };
}

const DRAW = {curves: drawCurves, cost: drawCost, scaling: drawScaling, parallel: drawParallel};
function draw(section) {
  for (const chart of section.querySelectorAll(".chart")) DRAW[chart.dataset.chart](section, tables[+section.dataset.table], chart);
}

function sortBy(head) {
  const column = head.cellIndex, body = head.closest("table").tBodies[0];
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  const key = row => row.cells[column].dataset.value;
  const order = (one, other) => {
    const [a, b] = [key(one), key(other)], numbers = [Number(a), Number(b)];
    return numbers.some(isNaN) || a === "" || b === "" ? a.localeCompare(b) : numbers[0] - numbers[1];
  };
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...[...body.rows].sort((one, other) => (ascending ? 1 : -1) * order(one, other)));
}

/* Rows that hold every word that was typed. */
function filter(input) {
  const panel = input.closest(".panel"), wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...panel.querySelectorAll("tbody tr")];
  for (const row of rows) row.hidden = !wanted.every(word => row.textContent.toLowerCase().includes(word));
  panel.querySelector(".matches").textContent = wanted.length ? `${rows.filter(row => !row.hidden).length} of ${rows.length}` : "";
}

async function copy(button) {
  const text = button.dataset.command;
  try { await navigator.clipboard.writeText(text); }
  catch {  // a page opened from a file may have no clipboard
    const field = Object.assign(document.createElement("textarea"), {value: text});
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}

for (const section of document.querySelectorAll("section.table")) {
  const table = tables[+section.dataset.table];
  for (const chip of section.querySelectorAll(".chip")) chip.setAttribute("aria-pressed", table.configurations[+chip.dataset.configuration].shown);
  section.addEventListener("change", () => draw(section));
  section.addEventListener("input", event => { if (event.target.type === "search") filter(event.target); });
  section.addEventListener("keydown", event => { if (event.key === "Enter" && event.target.closest("thead th")) event.target.click(); });
  section.addEventListener("click", event => {
    const chip = event.target.closest(".chip"), head = event.target.closest("thead th:not(.plain)");
    if (chip) {
      chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
      draw(section);
    }
    if (head) sortBy(head);
    const narrow = event.target.closest(".narrow");
    if (narrow) {
      const input = narrow.parentNode.querySelector("input"), word = narrow.dataset.word;
      input.value = input.value === word ? "" : word;
      filter(input);
    }
  });
  new ResizeObserver(() => { if (section.clientWidth) draw(section); }).observe(section);  // a page that is left has none
}

document.addEventListener("click", event => { const button = event.target.closest(".copy"); if (button) copy(button); });

const places = document.getElementById("places");
for (const heading of document.querySelectorAll("section:first-of-type h2[id], section[id] > h2")) {
  const id = heading.id || heading.parentNode.id;
  places.append(Object.assign(document.createElement("a"), {href: `#${id}`, textContent: heading.textContent}));
}

/* As the system has it, light, dark; remembered where the browser allows it. */
const theme = document.getElementById("theme"), THEMES = {auto: "light dark", light: "light", dark: "dark"};
const remembered = value => { try { value ? localStorage.setItem("lab-theme", value) : value = localStorage.getItem("lab-theme"); } catch { /* no storage */ } return value; };
function wear(name) {
  document.documentElement.style.colorScheme = THEMES[name];
  theme.textContent = {auto: "◐ auto", light: "○ light", dark: "● dark"}[name];
  theme.setAttribute("aria-label", `Colours: ${name}`);
  theme.dataset.name = name;
}
theme.onclick = () => { const names = Object.keys(THEMES), next = names[(names.indexOf(theme.dataset.name) + 1) % 3]; remembered(next); wear(next); };
wear(THEMES[remembered()] ? remembered() : "auto");
