// Draws DATA: one canvas for each layer and head, and the chosen one large, with its tokens.
const scheme = matchMedia("(prefers-color-scheme: dark)");
const tints = () => { // of a byte, which is the root of a weight
  const [from, to] = ["--bg", "--high"].map((name) => {
    ruler.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name);
    return [1, 3, 5].map((i) => parseInt(ruler.fillStyle.slice(i, i + 2), 16));
  });
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
    canvas.style.aspectRatio = Math.min(3, Math.max(2 / 3, keys / queries)); // a long text beside a short one takes no page
    figure.append(canvas, document.createElement("figcaption"));
    Object.assign(figure, { title: maps.figures[map].said, tabIndex: 0, role: "button", ariaLabel: name(map) });
    figure.onclick = () => enlarge(map, true);
    figure.onkeydown = (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault(); // a space scrolls
      enlarge(map, true);
    };
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
    const tint = new Uint32Array(Uint8Array.from(tints().flatMap((shade) => [...shade, 255])).buffer); // four bytes at once
    figures.forEach((figure, map) => {
      const pixels = new ImageData(keys, queries), shades = new Uint32Array(pixels.data.buffer);
      for (let i = 0; i < queries * keys; i++) shades[i] = tint[bytes[map * queries * keys + i]];
      figure.firstChild.getContext("2d").putImageData(pixels, 0, 0);
    });
    if (chosen !== null) enlarge(chosen, false);
  }

  function enlarge(map, scroll) {
    chosen = map;
    figures.forEach((figure, other) => (figure.ariaPressed = other === map));
    const left = margin(maps.queries), top = margin(maps.keys);
    const room = Math.min(900, large.parentElement.clientWidth - left - 2);
    const cell = Math.max(11, Math.min(22, Math.floor(room / keys)));
    const title = document.createElement("p"), said = document.createElement("p");
    title.textContent = `${name(map)}: ${maps.figures[map].said}`;
    said.className = "faint";
    said.textContent = "Point at a row to see where that token looks, or step through the rows with ↓ and ↑.";
    said.ariaLive = "polite";
    const frame = document.createElement("div");
    const ratio = devicePixelRatio || 1;
    const canvas = Object.assign(document.createElement("canvas"), { tabIndex: 0, role: "img", ariaLabel: title.textContent });
    const [width, height] = [left + keys * cell, top + queries * cell];
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);

    const paint = (row) => {
      const ink = getComputedStyle(document.body).color;
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
      pen.imageSmoothingEnabled = false;
      pen.drawImage(figures[map].firstChild, left, top, keys * cell, queries * cell);
      pen.strokeStyle = ink;
      pen.globalAlpha = 0.25;
      pen.strokeRect(left - 0.5, top - 0.5, keys * cell + 1, queries * cell + 1);
      pen.globalAlpha = 1;
      if (row !== null) pen.strokeRect(left, top + row * cell, keys * cell, cell);
    };

    let last = null;
    const point = (q, k) => {
      if (q < 0 || q >= queries) return;
      if (q !== last) paint((last = q));
      const best = [...Array(keys).keys()].sort((a, b) => at(map, q, b) - at(map, q, a)).slice(0, 4);
      const list = (places) => places.map((i) => `${JSON.stringify(maps.keys[i])} ${percent(at(map, q, i))}`).join(", ");
      const here = k >= 0 && k < keys && !best.includes(k) ? `; here ${list([k])}` : "";
      said.textContent = `${JSON.stringify(maps.queries[q])} looks at ${list(best)}${here}`;
    };
    canvas.onpointermove = canvas.onpointerdown = (event) =>
      point(Math.floor((event.offsetY - top) / cell), Math.floor((event.offsetX - left) / cell));
    canvas.onkeydown = (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      point((last ?? -1) + step, -1);
    };

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
