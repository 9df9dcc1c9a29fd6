// Draws DATA: one canvas for each layer and head, and the chosen one large, with its tokens.
const scheme = matchMedia("(prefers-color-scheme: dark)");
const tints = () => { // of a byte, which is the root of a weight
  const [from, to] = scheme.matches ? [[22, 24, 28], [130, 196, 255]] : [[255, 255, 255], [8, 64, 140]];
  return Array.from({ length: 256 }, (_, n) => from.map((c, i) => Math.round(c + (n / 255) * (to[i] - c))));
};
const short = (text) => (text.length > 14 ? text.slice(0, 13) + "…" : text).replace(/\n/g, "⏎").replace(/\t/g, "⇥");
const FONT = "11px ui-monospace, monospace";
const ruler = document.createElement("canvas").getContext("2d");
ruler.font = FONT;
const margin = (words) => 14 + Math.ceil(Math.max(...words.map((word) => ruler.measureText(short(word)).width)));
const percent = (byte) => `${(100 * (byte / 255) ** 2).toFixed(1)}%`;

DATA.forEach((maps, number) => {
  const [layers, heads, queries, keys] = maps.shape;
  const bytes = Uint8Array.from(atob(maps.weights), (c) => c.charCodeAt(0));
  const home = document.getElementById(`maps${number}`), large = document.getElementById(`large${number}`);
  const order = document.getElementById(`order${number}`);
  const at = (map, q, k) => bytes[(map * queries + q) * keys + k];
  const name = (map) => `layer ${Math.floor(map / heads) + 1}, head ${(map % heads) + 1}`;
  const figures = Array.from({ length: layers * heads }, (_, map) => small(map));
  let chosen = layers * heads === 1 ? 0 : null;

  home.hidden = layers * heads === 1;

  function small(map) {
    const figure = document.createElement("figure");
    const canvas = Object.assign(document.createElement("canvas"), { width: keys, height: queries });
    canvas.style.aspectRatio = `${keys} / ${queries}`;
    figure.append(canvas, document.createElement("figcaption"));
    Object.assign(figure, { title: maps.figures[map].said, tabIndex: 0, role: "button", ariaLabel: name(map) });
    figure.onclick = () => enlarge(map, true);
    figure.onkeydown = (event) => event.key === "Enter" && enlarge(map, true);
    return figure;
  }

  function arrange() {
    const by = order ? order.value : "";
    const columns = by ? "auto-fill, minmax(5rem, 1fr)" : `${heads}, minmax(5rem, 11rem)`; // unordered, a layer is a row
    home.style.gridTemplateColumns = `repeat(${columns})`;
    const places = [...figures.keys()];
    const value = (map) => maps.figures[map][by] ?? -1;
    if (by) places.sort((a, b) => value(b) - value(a));
    home.replaceChildren(...places.map((map) => figures[map]));
    figures.forEach((figure, map) => {
      const shown = by && maps.figures[map][by] !== null ? `: ${maps.figures[map][by].toFixed(2)}` : "";
      figure.lastChild.textContent = `${Math.floor(map / heads) + 1}.${(map % heads) + 1}${shown}`;
    });
  }

  function draw() {
    const tint = tints();
    figures.forEach((figure, map) => {
      const pixels = new ImageData(keys, queries);
      for (let i = 0; i < queries * keys; i++) pixels.data.set([...tint[bytes[map * queries * keys + i]], 255], 4 * i);
      figure.firstChild.getContext("2d").putImageData(pixels, 0, 0);
    });
    if (chosen !== null) enlarge(chosen, false);
  }

  function enlarge(map, scroll) {
    chosen = map;
    const left = margin(maps.queries), top = margin(maps.keys);
    const room = Math.min(900, large.parentElement.clientWidth - left - 2);
    const cell = Math.max(11, Math.min(22, Math.floor(room / keys)));
    const title = document.createElement("p"), said = document.createElement("p");
    title.textContent = `${name(map)}: ${maps.figures[map].said}`;
    said.className = "faint";
    said.textContent = "Point at a row to see where that token looks.";
    const frame = document.createElement("div");
    const ratio = devicePixelRatio || 1;
    const canvas = document.createElement("canvas");
    const [width, height] = [left + keys * cell, top + queries * cell];
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);

    const paint = (row) => {
      const tint = tints(), ink = getComputedStyle(document.body).color;
      pen.clearRect(0, 0, width, height);
      pen.font = FONT;
      pen.textBaseline = "middle";
      pen.fillStyle = ink;
      pen.textAlign = "right";
      maps.queries.forEach((word, q) => {
        pen.globalAlpha = row === null || row === q ? 1 : 0.5;
        pen.fillText(short(word), left - 6, top + (q + 0.5) * cell);
      });
      pen.globalAlpha = 1;
      pen.textAlign = "left";
      maps.keys.forEach((word, k) => {
        pen.save();
        pen.translate(left + (k + 0.5) * cell, top - 6);
        pen.rotate(-Math.PI / 2);
        pen.fillText(short(word), 0, 0);
        pen.restore();
      });
      for (let q = 0; q < queries; q++)
        for (let k = 0; k < keys; k++) {
          pen.fillStyle = `rgb(${tint[at(map, q, k)]})`;
          pen.fillRect(left + k * cell, top + q * cell, cell, cell);
        }
      pen.strokeStyle = ink;
      pen.globalAlpha = 0.25;
      pen.strokeRect(left - 0.5, top - 0.5, keys * cell + 1, queries * cell + 1);
      pen.globalAlpha = 1;
      if (row !== null) pen.strokeRect(left, top + row * cell, keys * cell, cell);
    };

    let last = null;
    const point = (event) => {
      const q = Math.floor((event.offsetY - top) / cell), k = Math.floor((event.offsetX - left) / cell);
      if (q < 0 || q >= queries) return;
      if (q !== last) paint((last = q));
      const best = [...Array(keys).keys()].sort((a, b) => at(map, q, b) - at(map, q, a)).slice(0, 4);
      const list = (places) => places.map((i) => `${JSON.stringify(maps.keys[i])} ${percent(at(map, q, i))}`).join(", ");
      const here = k >= 0 && k < keys && !best.includes(k) ? `; here ${list([k])}` : "";
      said.textContent = `${JSON.stringify(maps.queries[q])} looks at ${list(best)}${here}`;
    };
    canvas.onpointermove = canvas.onpointerdown = point;

    paint(null);
    frame.append(canvas);
    large.replaceChildren(title, said, frame);
    large.style.display = "block";
    if (scroll) large.scrollIntoView({ behavior: "smooth", block: "nearest" });
  }

  if (order) order.onchange = arrange;
  arrange();
  draw();
  scheme.addEventListener("change", draw);
});
